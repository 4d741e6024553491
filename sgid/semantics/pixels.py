"""Images as what models take, made in threads while the model is busy with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PIECE = 16
"""Images that a thread prepares in one go: small ones take less time than handing them over."""


def pixel_batches(
    images: Sequence[Image],
    size: int,
    prepare: Callable[[Sequence[Image]], torch.Tensor],
    device: torch.device,
) -> Iterator[torch.Tensor]:
    """Batches of up to `size` images on `device`, as (B, 3, H, W) of what `prepare` makes of them.

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
