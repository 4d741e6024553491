"""How the distribution of generated images compares with that of held-out real ones.

All functions take CLIP embeddings: unit vectors (N, D).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgid.evaluation.neighbours import nearest, slices

NEIGHBOURS = 5
"""How far the neighbourhood of a real image reaches, as Naeem et al. have it."""
SUBSETS, SUBSET = 20, 500
"""Over how many random subsets the kernel distance is averaged, and the size of each."""


def density_coverage(
    real: NDArray, generated: NDArray, *, neighbours: int = NEIGHBOURS
) -> tuple[float, float] | None:
    """Density and coverage (Naeem et al., 2020).

    The neighbourhood of a real image is the ball that reaches to its k-th nearest real neighbour.
    Density is in how many of them a generated image lies, on average, over k: around 1 for images
    like the real ones, above it where they crowd in the middle. Coverage, in [0, 1], is the share
    of real images with a generated one in their neighbourhood.

    Args:
        real: (M, D), of M above `neighbours`; `None` is returned for fewer.
        generated: (N, D).
    """
    if len(real) <= neighbours:
        return None
    # Each image is its own nearest neighbour, at a cosine of 1.
    _, cosines = nearest(real, real, neighbours + 1)
    reach = cosines[:, -1]  # (M,), the least cosine that is within
    inside, covered = 0, np.zeros(len(real), bool)
    for some in slices(len(generated), len(real)):
        within = generated[some] @ real.T > reach  # (n, M)
        inside += int(within.sum())
        covered |= within.any(0)
    return inside / (neighbours * len(generated)), float(covered.mean())


def frechet(real: NDArray, generated: NDArray) -> float | None:
    """Fréchet distance of two normal distributions (FID; Heusel et al., 2017), of CLIP embeddings.

    It grows with the embeddings' scale and shrinks as there are more images: compare values of the
    same CLIP and like counts alone. `None` with fewer than two images.
    """
    if min(len(real), len(generated)) < 2:
        return None
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_as_they_are(real.shape[1]), normalize=True)
    return float(_fed(metric, real, generated).compute())


def kernel_distance(
    real: NDArray, generated: NDArray, *, subsets: int = SUBSETS, size: int = SUBSET
) -> float | None:
    """Kernel distance (KID; Bińkowski et al., 2018): the squared MMD for (1 + cosine)³.

    The mean over random subsets, which are the same each time: at most `size` images each. It has
    no bias by the number of images, so it may be below 0. `None` with fewer than two images.
    """
    size = min(size, len(real), len(generated))
    if size < 2:
        return None
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")  # of its memory
        metric = KernelInceptionDistance(
            feature=_as_they_are(real.shape[1]), subsets=subsets, subset_size=size, gamma=1.0
        )
    with _own_draws():
        return float(_fed(metric, real, generated).compute()[0])


def _fed(metric: Any, real: NDArray, generated: NDArray) -> Any:
    import torch

    for vectors, is_real in ((real, True), (generated, False)):
        for some in slices(len(vectors)):
            metric.update(torch.from_numpy(vectors[some].astype(np.float64)), real=is_real)
    return metric


def _as_they_are(size: int) -> Any:
    """Torchmetrics' encoder, where what it is given are embeddings already."""
    import torch

    encoder = torch.nn.Identity()
    encoder.num_features = size  # type: ignore[assignment]
    return encoder


@contextmanager
def _own_draws() -> Iterator[None]:
    """Torchmetrics draws its subsets from torch's own generator, which others go on to use."""
    import torch

    before = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(0)
        yield
    finally:
        torch.set_rng_state(before)
