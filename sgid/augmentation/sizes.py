"""The side, in pixels, at which a classifier sees the images of a set."""

from __future__ import annotations

from statistics import median

from sgid.data.image_set import ImageSet

SMALL = 96
"""Images up to this side are small: they are padded and cropped, not cropped and resized, and
backbones keep their resolution."""

LARGE = 224
"""What larger images are brought to."""


def training_size(images: ImageSet) -> int:
    """The median shorter side of the first images, to a multiple of 8, where that is small."""
    side = median(min(images[i].image.size) for i in range(min(32, len(images))))
    return max(8, round(side / 8) * 8) if side <= SMALL else LARGE
