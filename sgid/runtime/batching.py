"""Batches of similar items that fit into the device's memory, and the search for their size.

On a CUDA GPU the size is measured on the work itself, and remembered. Elsewhere it follows from the
size of the latents: on a CPU throughput is flat over a wide range (measured from 2,048 to 16,384
positions a batch, `experiments/LOG.md`), and memory that runs out ends the process.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, final

if TYPE_CHECKING:
    import torch


log = logging.getLogger(__name__)

Item = TypeVar("Item")


Result = TypeVar("Result")


Wait = Callable[[], Sequence[Result]]
"""Waits for work that has begun; one result per item."""

WORTH_IT = 1.05
"""A batch size is doubled again if the last doubling made the work faster by this factor."""

_SAID = (  # by torch, in a plain RuntimeError
    *("DefaultCPUAllocator: ", "MPS backend out of memory"),
    *("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)


class DoesNotFit(ValueError):
    """Raised when one item alone does not fit into memory; names the option to change."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a device, or of the machine, ran out."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError | DoesNotFit):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID)


@final
class AdaptiveBatcher:
    """Runs batches of at most `size` items; `size` is halved, for good, when memory runs out.

    With `grow`, the size begins at `size` and is doubled as long as that pays, measured on the work
    itself: two batches of each size. `settled` is called with each size that paid, and the last
    one. `hint` names an option with which an item takes less memory.
    """

    def __init__(
        self,
        size: int,
        *,
        grow: bool = False,
        settled: Callable[[int], None] = lambda _: None,
        hint: str = "take another trainer.device",
    ) -> None:
        self.size = size
        self.hint = hint
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
        """Yield each item with its result, from batches of items with the same value of `alike`.

        `start` begins a batch. As many as `ahead` more are begun before the oldest is waited for.

        Raises:
            DoesNotFit: when memory runs out with a batch of one.
        """
        begun: deque[tuple[Sequence[Item], Wait[Result] | None, float | None]] = deque()

        def begin(batch: Sequence[Item], *, timed: bool) -> None:
            began, wait = time.perf_counter() if timed else None, None
            try:
                wait = start(batch)
            except Exception as error:
                self._must_be_too_large(batch, error)
            begun.append((batch, wait, began))

        def oldest() -> Iterator[tuple[Item, Result]]:
            batch, wait, began = begun.popleft()
            results = None
            try:
                results = wait() if wait else None
            except Exception as error:
                self._must_be_too_large(batch, error)
            wait = None  # it may hold on to the error, and that to the frames that hold the memory
            if results is not None:
                if began is not None:
                    self._learn(len(batch), time.perf_counter() - began)
                yield from zip(batch, results, strict=True)
            else:  # not above, where the error is still held
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

    def shrink(self, size: int) -> None:
        """Limit batches to `size` items from now on."""
        self.growing = False
        self.size = min(self.size, size)
        self.settled(self.size)

    def child(self) -> AdaptiveBatcher:
        """A batcher of this size for other work; when it is halved, so is this one."""
        return AdaptiveBatcher(self.size, settled=self.shrink, hint=self.hint)

    def _must_be_too_large(self, batch: Sequence[object], error: Exception) -> None:
        """Raise `error` unless it is memory that ran out, for several items."""
        if not out_of_memory(error):
            raise error
        if len(batch) == 1:
            raise DoesNotFit(f"memory runs out with one at a time; {self.hint}") from error

    def _halve(self, failed: int) -> None:
        import torch

        if self.size > failed // 2:  # else another batch of that size has halved it
            log.warning("out of memory with %d at a time: %d from now on", failed, failed // 2)
        torch.cuda.empty_cache()
        self.shrink(failed // 2)

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


AUTO = "auto"


FIRST = 4
"""What growing begins with on a GPU."""


HINT = (
    "take models.generator.memory=low, a smaller models.generator.resolution, "
    "models.generator.dtype=float16 (or bfloat16), or another trainer.device"
)


POSITIONS = 4096
"""Latent positions in a batch elsewhere: 64 images of 8 x 8, one of 64 x 64."""


def adaptive_batcher(
    size: int | str, *, device: torch.device, latent_side: int, name: str, remembered: Path | None
) -> AdaptiveBatcher:
    """Batches of `size`, or with "auto" of what is found, or was found before, for `name`.

    `latent_side` is that of the latents (B, C, side, side); `remembered` the file to write to.
    """
    if size != AUTO:
        return AdaptiveBatcher(int(size), hint=HINT)
    if device.type != "cuda":
        return AdaptiveBatcher(max(1, POSITIONS // latent_side**2), hint=HINT)
    import torch

    name = f"{torch.cuda.get_device_name(device)}, {name}"
    settled = partial(_write, remembered, name)
    if (known := _read(remembered).get(name)) is not None:
        return AdaptiveBatcher(known, settled=settled, hint=HINT)
    return AdaptiveBatcher(FIRST, grow=True, settled=settled, hint=HINT)


def _read(path: Path | None) -> dict[str, int]:
    if path is None or not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it is found again
        return {}


def _write(path: Path | None, name: str, size: int) -> None:
    if path is not None:
        known = json.dumps({**_read(path), name: size}, indent=2) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(known, encoding="utf-8")
        os.replace(unfinished, path)


def by_rows(count: int, at_once: int, compute: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    """Rows that `compute` gives for a batch, `at_once` of them, or fewer if memory runs out.

    Raises:
        MemoryError: if there is no memory for a single row.
    """
    import torch

    parts, start = [], 0
    while start < count:
        try:
            parts.append(compute(slice(start, min(start + at_once, count))))
            start += at_once
            continue
        except Exception as error:
            if not out_of_memory(error):
                raise
            if at_once == 1:
                raise MemoryError(
                    "memory runs out at the gradient of a single image; take a smaller "
                    "models.generator.batch_size or models.generator.resolution"
                ) from error
        at_once = max(1, at_once // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return torch.cat(parts)
