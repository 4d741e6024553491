"""How different images are from one another. All functions take unit vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgid.evaluation.neighbours import slices


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
