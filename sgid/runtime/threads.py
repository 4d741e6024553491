"""Background threads: prefetching, ordered parallel map, deferred writes.

Threads, not processes: decoding and encoding images, hashing and writing Parquet all release the
interpreter's lock, and no image has to be copied to another process.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar, final

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


T = TypeVar("T")


R = TypeVar("R")


P = ParamSpec("P")

THREADS = min(8, os.cpu_count() or 1)
"""For decoding and encoding images: more than these wait for one another."""

TRIED = 16
"""Items that tell how long one takes."""


LONG = 0.0005
"""Seconds for an item from which threads are worth it."""

_END = object()


def prefetch(items: Iterable[T], count: int = 1) -> Generator[T, None, None]:
    """Yield the items in order; while one is in use, a thread makes the next `count`.

    An error in making an item is raised where that item is asked for. Closing the iterator waits
    for the item that is being made, and makes no more.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as thread:
        pending = deque(thread.submit(next, source, _END) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(thread.submit(next, source, _END))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], threads: int = THREADS
) -> Generator[R, None, None]:
    """Yield `function` of each item in order; several at a time where an item takes long.

    The first are done alone, to see how long. Small images are done sooner by one thread: several
    wait for the interpreter's lock more than they work.
    """
    source, seconds = iter(items), []
    for item in islice(source, TRIED):
        started = time.perf_counter()
        result = function(item)
        seconds.append(time.perf_counter() - started)
        yield result
    if not seconds or median(seconds) < LONG:
        yield from map(function, source)
        return
    pool = ThreadPoolExecutor(threads, "parallel_map")
    pending: deque[Future[R]] = deque()
    try:
        for item in source:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:  # few, since results may be large
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@final
class BackgroundWriter:
    """Runs calls in `threads` threads while the caller goes on.

    At most `waiting` of them are not done: the next one waits for the oldest. An error is raised
    in the caller's thread, from `check` or the next call or the end of the `with` block. However
    the block ends, all calls that were handed over are done first, so that nothing is half done.
    """

    def __init__(self, threads: int, *, waiting: int) -> None:
        self.pool = ThreadPoolExecutor(threads, "behind")
        self.waiting = waiting
        self.pending: deque[Future] = deque()

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run `function` in the background."""
        self.check()
        while len(self.pending) >= self.waiting:
            self.pending.popleft().result()
        future = self.pool.submit(function, *args, **kwargs)
        self.pending.append(future)
        return future

    def check(self) -> None:
        """Raise the error of a call that has failed."""
        for _ in range(len(self.pending)):  # once around, so that the order stays
            future = self.pending.popleft()
            if future.done():
                future.result()
            else:
                self.pending.append(future)

    def wait(self) -> None:
        """Wait until all calls are done; raises the error of one that has failed."""
        while self.pending:
            self.pending.popleft().result()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.pool.shutdown()
        if error is None:
            self.check()


PIECE = 16
"""Images that a thread prepares in one go: small ones take less time than handing them over."""


def pixel_batches(
    images: Sequence[Image],
    size: int,
    prepare: Callable[[Sequence[Image]], torch.Tensor],
    device: torch.device,
) -> Iterator[torch.Tensor]:
    """Yield batches of up to `size` prepared images on `device`, (B, 3, H, W).

    `prepare` is called in threads, with a few images at a time. The next batch is begun before one
    is yielded.
    """
    import torch

    def piece(start: int, stop: int) -> torch.Tensor:
        made = prepare(images[start:stop])
        return made.pin_memory() if device.type == "cuda" else made

    threads = torch.get_num_threads()
    # One each: or every thread would begin as many of its own.
    pool = ThreadPoolExecutor(threads, "pixels", lambda: torch.set_num_threads(1))
    begun = deque()
    try:
        for first in range(0, len(images), size):
            last = min(first + size, len(images))
            starts = range(first, last, PIECE)
            begun.append([pool.submit(piece, at, min(at + PIECE, last)) for at in starts])
            if len(begun) == 2:
                yield _joined(begun.popleft(), device)
        while begun:
            yield _joined(begun.popleft(), device)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what new threads begin with


def _joined(pieces, device: torch.device) -> torch.Tensor:
    import torch

    return torch.cat([piece.result().to(device, non_blocking=True) for piece in pieces])
