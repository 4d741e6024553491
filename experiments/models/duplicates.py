"""Near-duplicates by a perceptual hash: the signs of an image's low frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

NEAR = 8
"""Hashes that differ in so many of 63 bits, or fewer, are taken for the same picture."""


def perceptual_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N,) of colour images (N, H, W, 3): which of 8×8 DCT coefficients are above their median.

    Brightness (the first coefficient) is left out, so that its bit is 0.
    """
    grey = images.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(images), 64)
    median = np.median(low[:, 1:], axis=1, keepdims=True)
    bits = low > median
    bits[:, 0] = False
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def distances(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits (N,) in which each hash differs from the nearest of the others."""
    nearest = np.full(len(hashes), 64, np.uint8)
    for start in range(0, len(hashes), 8):
        rows = slice(start, start + 8)
        for begin in range(0, len(others), 8192):  # half a megabyte at a time stays in the cache
            differing = np.bitwise_count(hashes[rows, None] ^ others[None, begin : begin + 8192])
            np.minimum(nearest[rows], differing.min(1), out=nearest[rows])
    return nearest
