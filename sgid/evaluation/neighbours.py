"""Nearest neighbours among unit vectors, a slice at a time, so that any number of them fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 2**24
"""Cosines that are held in memory: 64 MiB of them."""


def slices(count: int, width: int = 256) -> Iterator[slice]:
    """Of `count` rows, so many at a time that rows × `width` is at most `AT_ONCE`.

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
        found = np.argpartition(-every, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(every, found, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[some] = np.take_along_axis(found, order, axis=1)
        cosines[some] = np.take_along_axis(values, order, axis=1)
    return rows, cosines
