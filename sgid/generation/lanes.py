"""How a device is kept at work: what begins a batch, and how many are begun ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SMALL = 32
"""Side of the latents up to which a CPU draws several batches at once."""

Wait = Callable[[], Sequence[Any]]
Draw = Callable[[], Wait]
"""Begins a batch, and gives what waits for its results."""


@contextmanager
def lanes(
    batches: float, *, device: torch.device, latent_side: int, stop: Callable[[], None]
) -> Iterator[tuple[Callable[[Draw], Wait], int]]:
    """What begins batches, and how many to begin while the oldest is waited for.

    A GPU goes on with the next batch while the results of the last are fetched. A CPU works on as
    many batches at once as it has threads, each on one of them: small networks gain little from
    more. Large ones do, and several batches of theirs may not fit in the memory.

    `stop` is called when no more results are wanted, so that batches at work give up.
    """
    import torch

    threads = torch.get_num_threads()
    count = min(threads, math.ceil(batches))
    if device.type != "cpu" or count < 2 or latent_side > SMALL:
        yield lambda draw: draw(), 1 if device.type == "cuda" else 0
        return
    pool = ThreadPoolExecutor(count, "lane", lambda: torch.set_num_threads(threads // count))
    try:
        yield lambda draw: pool.submit(lambda: draw()()).result, count
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what new threads begin with
