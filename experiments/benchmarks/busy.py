"""Share of the time that watched functions have the machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, final


@final
class Busy:
    """`seconds` sums up all calls; those of the engine's `lanes` count by their share of the cores.

    So a lane that waits is time lost, even while another one works.
    """

    def __init__(self, lanes: int) -> None:
        self.seconds = 0.0
        self.lanes = lanes
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, *methods: tuple[Any, str]) -> Iterator[Busy]:
        """Watch methods, each given by its owner (a class or an object) and its name."""
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
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - started
                # One of several lanes has but its share of the cores.
                in_lane = threading.current_thread().name.startswith("lane")
                with self._lock:
                    self.seconds += seconds / self.lanes if in_lane else seconds

        return watched
