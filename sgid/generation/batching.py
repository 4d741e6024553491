"""Items that are alike, in batches that the device's memory can hold."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar, final

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Wait = Callable[[], Sequence[Result]]
"""Waits for work that has begun; one result per item."""

WORTH_IT = 1.05
"""A batch size is doubled again if the last doubling made the work faster by this factor."""


@final
class Batches:
    """Batches of at most `size` items; `size` is halved, for good, when memory runs out.

    With `grow`, the size begins at `size` and is doubled as long as that pays, measured on the work
    itself: two batches of each size. `settled` is told each size that did pay, and that which was
    found or halved in the end.
    """

    def __init__(
        self, size: int, *, grow: bool = False, settled: Callable[[int], None] = lambda _: None
    ) -> None:
        self.size = size
        self.growing = grow
        self.settled = settled
        self._rates: dict[int, list[float]] = defaultdict(list)  # size -> items per second
        self._kind: tuple[Hashable] | None = None

    def run(
        self,
        items: Sequence[Item],
        start: Callable[[Sequence[Item]], Wait[Result]],
        *,
        alike: Callable[[Item], Hashable] = lambda _: None,
        ahead: int = 0,
    ) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, from batches of items with the same value of `alike`.

        `start` begins a batch. As many as `ahead` more are begun before the oldest is waited for.
        """
        import torch

        begun: deque[tuple[Sequence[Item], Wait[Result] | None, float | None]] = deque()

        def begin(batch: Sequence[Item], *, timed: bool) -> None:
            began = time.perf_counter() if timed else None
            try:
                wait = start(batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                wait = None
            begun.append((batch, wait, began))

        def oldest() -> Iterator[tuple[Item, Result]]:
            batch, wait, began = begun.popleft()
            results = None
            try:
                results = wait() if wait else None
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
            if results is not None:
                if began is not None:
                    self._learn(len(batch), time.perf_counter() - began)
                yield from zip(batch, results, strict=True)
            else:  # not above, since the error holds on to the frames that hold the memory
                self._halve(len(batch))
                yield from self.run(batch, start)

        buckets = defaultdict(list)
        for item in items:
            buckets[alike(item)].append(item)
        for kind, bucket in buckets.items():
            position = 0
            while position < len(bucket):
                timed = self._times(kind, len(bucket) - position)
                while timed and begun:  # it has the device for itself
                    yield from oldest()
                batch = bucket[position : position + self.size]
                position += len(batch)
                begin(batch, timed=timed)
                while len(begun) > (0 if timed else ahead):
                    yield from oldest()
        while begun:
            yield from oldest()

    def _halve(self, failed: int) -> None:
        import torch

        self.growing = False
        self.size = min(self.size, failed // 2)
        torch.cuda.empty_cache()
        self.settled(self.size)

    def _times(self, kind: Hashable, left: int) -> bool:
        """Whether a batch tells how fast its size is: one that is full, of one kind of items."""
        if not self.growing or left < self.size:
            return False
        if self._kind is None:
            self._kind = (kind,)
        return self._kind == (kind,)

    def _learn(self, count: int, seconds: float) -> None:
        if not self.growing:
            return
        rates = self._rates[count]
        rates.append(count / seconds)
        if len(rates) < 2:  # the first of a size also pays for memory and the choice of kernels
            return
        before = max(self._rates.get(count // 2, [0.0]))
        if max(rates) >= WORTH_IT * before:
            self.settled(count)
            self.size = 2 * count
            return
        self.growing = False
        self.size = count // 2
        log.info("batch size %d: %.3g a second, %.3g with %d", self.size, before, max(rates), count)
        self.settled(self.size)
