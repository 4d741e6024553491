"""Requests that are alike, in batches that the device's memory can hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, final

from sgid.records import Generated, Request

if TYPE_CHECKING:
    from PIL.Image import Image


@final
class Batches:
    """Batches of at most `size` requests; `size` is halved, for good, when memory runs out."""

    def __init__(self, size: int) -> None:
        self.size = size

    def draw(
        self,
        requests: Sequence[Request],
        draw: Callable[[Sequence[Request]], list[Image]],
        *,
        alike: Callable[[Request], Hashable],
    ) -> Iterator[Generated]:
        """The images that `draw` gives for batches of requests with the same value of `alike`."""
        import torch

        buckets = defaultdict(list)
        for request in requests:
            buckets[alike(request)].append(request)
        for bucket in buckets.values():
            start = 0
            while start < len(bucket):
                batch = bucket[start : start + self.size]
                try:
                    images = draw(batch)
                except torch.OutOfMemoryError:
                    if len(batch) == 1:
                        raise
                    images = None
                if images is None:
                    # Out here, since the error holds on to the frames that hold the memory.
                    self.size = len(batch) // 2
                    torch.cuda.empty_cache()
                    continue
                yield from map(Generated, batch, images)
                start += len(batch)
