"""The wall time in which some of the watched functions is running, in any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, final


@final
class Busy:
    """`seconds` is the length of the union of all calls: two at once count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running = 0
        self._since = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, *methods: tuple[Any, str]) -> Iterator[Busy]:
        """Watch methods, each told by its owner (a class or an object) and its name."""
        originals = [(owner, name, getattr(owner, name)) for owner, name in methods]
        for owner, name, original in originals:
            setattr(owner, name, self._watched(original))
        try:
            yield self
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._enter()
            try:
                return function(*args, **kwargs)
            finally:
                self._leave()

        return watched

    def _enter(self) -> None:
        with self._lock:
            if not self._running:
                self._since = time.perf_counter()
            self._running += 1

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self.seconds += time.perf_counter() - self._since
