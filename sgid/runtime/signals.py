"""Ctrl-C and `kill` as an exception, which closes what is open wherever a run is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, final

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what `kill`, `timeout` and schedulers send. (submitit has SIGUSR2 to itself.)"""

GRACE = 1.0
"""Seconds in which a second signal is the same request, sent to a process and to its group."""


AGAIN = 0.1
"""Seconds until a signal is raised again whose exception a library has swallowed."""


@final
class Stopped(BaseException):
    """Raised in the main thread when a signal asks this process to end; `signal` is which.

    Not a `KeyboardInterrupt`: Lightning, Ray and others make another exception of that.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)

    @property
    def code(self) -> int:
        """The exit code that shells give a process ended by this signal."""
        return 128 + self.signal


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Make SIGINT and SIGTERM raise `Stopped` in the main thread within the block, once.

    A second signal ends the process at once, for one that hangs in its cleaning. A signal that is
    ignored from the start, as `nohup` and a shell's `&` have it, stays ignored, and one that has a
    handler already keeps that: such blocks can be nested, and launchers have handlers of their
    own. Other threads than the main one cannot have any: there the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, hook = _Handler(), sys.unraisablehook
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: was for number, was in before.items() if was in defaults}
    for number in before:
        signal.signal(number, handler)

    def unraisable(what: Any) -> None:
        if not isinstance(what.exc_value, Stopped):  # that one is raised again
            hook(what)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        handler.arrived = True
        sys.unraisablehook = hook
        for number, was in before.items():
            signal.signal(number, was)


def find_stop(error: BaseException | None) -> Stopped | None:
    """The stop that caused an error, if any: libraries may raise another exception from it."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error


@final
class _Handler:
    """Signal handler that raises `Stopped` until it leaves the block.

    A bare `except:` or a `__del__` may swallow it, which was seen in imports and in collectors.
    """

    def __init__(self) -> None:
        self.arrived = False
        self.first: float | None = None
        self.own = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.own:
            self.own = False
        elif self.first is None:
            self.first = now
        elif now - self.first < GRACE:
            return
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        # Not kept in a variable: the exception knows this frame, and would be kept by it in turn.
        raise self._watched(Stopped(number))

    def _watched(self, stopped: Stopped) -> Stopped:
        weakref.finalize(stopped, self._gone, stopped.signal).atexit = False
        return stopped

    def _gone(self, number: int) -> None:
        """Called when nobody holds the exception any more: it has arrived, or it was swallowed."""
        if not self.arrived:
            again = threading.Timer(AGAIN, self._again, (number,))
            again.daemon = True
            again.start()

    def _again(self, number: int) -> None:
        if not self.arrived:
            self.own = True
            os.kill(os.getpid(), number)
