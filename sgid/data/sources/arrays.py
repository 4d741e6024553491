"""Listings of images that a set keeps as one array of pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np

from sgid.data.image_set import Texts
from sgid.data.listing import Listing, stamp


def listed(
    place: Path,
    split: str,
    *,
    files: Sequence[Path],
    labels: Sequence[int],
    class_names: Sequence[str],
    load: Callable[[], np.ndarray],
    images: np.ndarray,
) -> Listing:
    """The rows of `images`, uint8 (N, H, W, 3) or (N, H, W), which `load()` reads from `files`.

    Raises:
        ValueError: if there is not one label per image, or one is none of the `class_names`.
    """
    if len(labels) != len(images):
        raise ValueError(f"the {split} split has {len(images)} images and {len(labels)} labels")
    if unknown := set(labels) - set(range(len(class_names))):
        raise ValueError(
            f"the {split} split has the class numbers {sorted(unknown)[:5]}, but there are "
            f"{len(class_names)} classes"
        )
    return Listing(
        origin=f"{place} ({split})",
        keys=Texts(f"{split}/{row:05}" for row in range(len(images))),
        labels=tuple(labels),
        stamps=(" ".join(map(stamp, files)),) * len(images),
        class_names=tuple(class_names),
        read=ArrayReader(load, images),
    )


@final
class ArrayReader:
    """Image `i` of an array, as the bytes of a PPM or PGM file: lossless, and the same anywhere.

    The array does not travel to other processes: they load their own, if they come to read.
    """

    def __init__(self, load: Callable[[], np.ndarray], images: np.ndarray | None = None) -> None:
        self._load = load
        self._images = images

    def __call__(self, index: int) -> bytes:
        if self._images is None:
            self._images = self._load()
        return portable(self._images[index])

    def __reduce__(self) -> tuple[type, tuple[Callable[[], np.ndarray]]]:
        return ArrayReader, (self._load,)


def portable(image: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as a binary PPM, or (H, W) as a binary PGM."""
    height, width = image.shape[:2]
    kind = "P6" if image.ndim == 3 else "P5"
    return f"{kind} {width} {height} 255\n".encode() + image.tobytes()
