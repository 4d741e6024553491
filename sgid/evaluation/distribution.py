"""Distribution metrics of generated against held-out real images: FID, KID, density, coverage,
Vendi.

All functions take CLIP embeddings: unit vectors (N, D). Neighbours are searched a slice at a time,
so that any number of vectors fits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5
"""The neighbour that bounds the neighbourhood of a real image, as in Naeem et al."""


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


def pairwise_distance(vectors: NDArray, group: NDArray) -> float | None:
    """Mean over groups of the mean 1 - cosine over the pairs within a group.

    Args:
        vectors: (N, D) unit vectors.
        group: (N,) the group of each: its original, say, or its class.

    Returns:
        A distance in [0, 2]; `None` if no group has two members.
    """
    _, group, n = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(n), vectors.shape[1]), vectors.dtype)
    for some in slices(len(group)):
        np.add.at(sums, group[some], vectors[some])
    # The sum of all pairwise cosines in a group is |sum of its vectors|²; the diagonal is n.
    total = np.square(sums).sum(1, dtype=np.float64)
    many = n > 1
    if not many.any():
        return None
    return float((1 - (total - n)[many] / (n * (n - 1))[many]).mean())


def vendi(vectors: NDArray) -> float:
    """The Vendi score (Friedman and Dieng, 2023): how many different images there are in effect.

    It is the exponential of the entropy of the eigenvalues of K / N, where K holds the cosines of
    all pairs: 1 when all images are the same, N when they have nothing in common. These are also
    the eigenvalues of the (D, D) matrix XᵀX / N, which is the smaller one of many images.

    Args:
        vectors: (N, D) unit vectors, N above 0.
    """
    count, size = vectors.shape
    if count < size:
        gram = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    else:
        gram = np.zeros((size, size))
        for some in slices(count):
            part = vectors[some].astype(np.float64)
            gram += part.T @ part
    values = np.linalg.eigvalsh(gram / count)
    values = values[values > 1e-12]  # 0 · log 0 is 0
    return float(np.exp(-(values * np.log(values)).sum()))


AT_ONCE = 2**24
"""Cosines that are held in memory: 64 MiB of them."""


def slices(count: int, width: int = 256) -> Iterator[slice]:
    """Slices of `count` rows, each of at most `AT_ONCE` / `width` rows.

    Vectors that are mapped from a file may be more than the memory holds.
    """
    step = max(1, AT_ONCE // max(1, width))
    return (slice(start, start + step) for start in range(0, count, step))


def nearest(
    queries: NDArray, vectors: NDArray, count: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` nearest of `vectors` to each query, nearest first.

    Args:
        queries: (N, D) unit vectors.
        vectors: (M, D) unit vectors; M must not be 0.

    Returns:
        (N, K) rows of `vectors` and (N, K) cosines, where K is the lesser of `count` and M.
    """
    count = min(count, len(vectors))
    rows = np.zeros((len(queries), count), np.int64)
    cosines = np.zeros((len(queries), count), np.float32)
    for some in slices(len(queries), len(vectors)):
        every = queries[some] @ vectors.T  # (n, M)
        smallest = np.argpartition(-every, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(every, smallest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[some] = np.take_along_axis(smallest, order, axis=1)
        cosines[some] = np.take_along_axis(values, order, axis=1)
    return rows, cosines
