"""Budgets: the number of images to generate of each class, in place of `expansion` per original.

A budget is a function from the numbers (C,) of training images to numbers (C,) of images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def fill_to(counts: ArrayLike, expansion: int, *, total: int | None = None) -> NDArray[np.int64]:
    """Images that each class lacks of `total`; `null`: of the largest class's, and more.

    With `null` the largest class gets `expansion` for each of its images, and all others as many as
    make them equal.
    """
    real = np.asarray(counts)
    goal = real.max() * (1 + expansion) if total is None else total
    return np.where(real > 0, np.maximum(goal - real, 0), 0)


def inverse_frequency(counts: ArrayLike, expansion: int) -> NDArray[np.int64]:
    """Share out `expansion` for each training image in inverse proportion to `counts`."""
    real = np.asarray(counts, np.float64)
    weights = np.divide(1, real, out=np.zeros_like(real), where=real > 0)
    return np.round(expansion * real.sum() * weights / weights.sum()).astype(np.int64)


def repeats(totals: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """(N,): the images of each original, such that each class's are shared out evenly.

    The first of a class, in the order of the training set, get one more where it does not come out
    even.
    """
    totals, labels = np.asarray(totals), np.asarray(labels)
    shared = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        each, more = divmod(int(totals[label]), len(rows))
        shared[rows] = each + (np.arange(len(rows)) < more)
    return shared
