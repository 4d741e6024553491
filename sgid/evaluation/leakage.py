"""Generated images that come too near to test images, by their pixels.

How near is too near is not a constant: some sets hold many images that are nearly the same. So it
is read off real images. The validation part was never generated from anything; how near its images
come to the test part is what chance alone does. The distance that only one in a hundred of them
goes below is the limit, and `expected` says how many images below it are still nothing to wonder
at. Test images are read for this, their labels are not, and nothing is trained or chosen by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgid.evaluation.distribution import slices

SIDE = 32
"""Pixels along a side of the thumbnails that are compared."""
COARSE = 8
"""Pixels along a side by which the nearest few are looked for: no image is farther at 8 px than it
is at 32, so that few are missed."""
SHORTLIST = 10
"""The share of held-out images that are as near by chance."""
SHARE = 0.01
"""The share of held-out real images that is below the limit."""


@dataclass(frozen=True)
class Nearest:
    """For each of N images, the row of the nearest one of a set, and how far it is in pixels.

    `distances` are root mean squares over the pixels and channels, in shares of the full scale.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class Limit:
    """The pixel distance at or below which an image is a near-copy.

    `share` of new real images are expected to be: exactly so, where these and the held-out ones
    that the limit was read off could be exchanged for each other.
    """

    distance: float
    share: float


def thumbnails(images: Iterable[Image.Image], into: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill `into` (N, 32, 32, 3) with the pixels of RGB images; of 32 px images, their own."""
    for row, image in enumerate(images):
        if image.size != (SIDE, SIDE):
            image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
        into[row] = np.asarray(image)
    return into


def nearest_by_pixels(
    pixels: NDArray[np.uint8], among: NDArray[np.uint8], *, shortlist: int = SHORTLIST
) -> Nearest:
    """The nearest of a set of images to each image, of the `shortlist` nearest at 8 px.

    Args:
        pixels: (N, 32, 32, 3) thumbnails of the images.
        among: (M, 32, 32, 3) thumbnails of the set, M above 0.
    """
    count = min(shortlist, len(among))
    coarse = _coarse(among)  # (M, 192)
    lengths = np.square(coarse).sum(1)
    rows, distances = np.zeros(len(pixels), np.int64), np.zeros(len(pixels), np.float32)
    for some in slices(len(pixels), max(len(among), count * SIDE * SIDE * 3)):
        far = lengths - 2 * _coarse(pixels[some]) @ coarse.T  # (n, M), less what is of n alone
        few = np.argpartition(far, count - 1, axis=1)[:, :count]  # (n, K)
        few.sort(axis=1)
        one = np.asarray(pixels[some], np.float32)[:, None]  # (n, 1, 32, 32, 3)
        exact = np.sqrt(np.square(one - among[few]).mean((2, 3, 4))) / 255  # (n, K)
        best = exact.argmin(1)[:, None]
        rows[some] = np.take_along_axis(few, best, 1)[:, 0]
        distances[some] = np.take_along_axis(exact, best, 1)[:, 0]
    return Nearest(rows, distances)


def _coarse(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 192): thumbnails at 8 px, each pixel the mean of those that it stands for."""
    each = SIDE // COARSE
    blocks = np.zeros((len(pixels), COARSE, COARSE, 3), np.float32)
    for some in slices(len(pixels), SIDE * SIDE * 3):
        shape = (-1, COARSE, each, COARSE, each, 3)
        blocks[some] = np.asarray(pixels[some], np.float32).reshape(shape).mean((2, 4)) / 255
    return blocks.reshape(len(pixels), -1)


def limit(held_out: NDArray, *, share: float = SHARE) -> Limit:
    """The distance of a near-copy, from the distances of held-out real to test images.

    It is the k-th smallest of the M distances; a further image of the same kind is at most as far
    with a chance of k / (M + 1). k is the largest with which that is at most `share`, but 1 at
    least: with fewer than 99 held-out images the share is larger than what was asked for.
    """
    count = len(held_out)
    kth = max(1, int(share * (count + 1)))
    return Limit(float(np.partition(held_out, kth - 1)[kth - 1]), kth / (count + 1))
