"""Builders of listings from image files and from arrays of pixels, shared by the sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from sgid.data.image_set import Texts
from sgid.data.listing import FileReader, Listing, Splits, stamp
from sgid.data.sources.download import DatasetInfo


def listed_files(
    home: DatasetInfo,
    top: Path,
    split: str,
    *,
    images: Path,
    paths: Sequence[str | Path],
    labels: Sequence[int],
    class_names: Sequence[str],
    prefix: str = "",
) -> Listing:
    """The files `paths`, all below the folder `images`; keys are `prefix` and the path from there.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file lies elsewhere, or a label is none of the `class_names`.
    """
    folder = os.path.normpath(images)
    files = Texts(os.path.normpath(path) for path in paths)
    if outside := [file for file in files if not file.startswith(folder + os.sep)]:
        raise ValueError(f"{outside[0]}, an image of the {split} split, lies outside of {folder}")
    if unknown := set(labels) - set(range(len(class_names))):
        raise ValueError(
            f"the {split} split has the class numbers {sorted(unknown)[:5]}, but there are "
            f"{len(class_names)} classes"
        )
    stamps = Texts(stamp(file) for file in files)
    missing = [file for file, mark in zip(files, stamps, strict=True) if mark == "unreadable"]
    if missing:
        raise home.incomplete(
            top,
            f"{len(missing):,} of the {len(files):,} images of the {split} split are not there, "
            f"the first is {missing[0]}",
        )
    return Listing(
        origin=f"{folder} ({split})",
        keys=Texts(prefix + Path(file[len(folder) + 1 :]).as_posix() for file in files),
        labels=tuple(labels),
        stamps=stamps,
        class_names=tuple(class_names),
        read=FileReader(files),
    )


def torchvision_files(
    home: DatasetInfo,
    make: Callable[..., Any],
    root: str | None,
    *,
    download: bool,
    images: str,
    splits: Mapping[str, Mapping[str, Any]],
    names: Callable[[Any], Sequence[str]],
) -> Splits:
    """A set of image files that torchvision knows how to fetch and to list.

    `make` is torchvision's class, `splits` its arguments for each of our splits, `images` the
    folder of the images below `home.folder`, and `names` gives the class names of what it made.
    """

    def fetch(place: Path) -> None:
        make(place, download=True, **splits["train"])

    top = home.find(root, download=download, fetch=fetch)
    with home.reading(top):
        made = {split: make(top, **arguments) for split, arguments in splits.items()}
        class_names = names(made["train"])
        for split, dataset in made.items():
            if names(dataset) != class_names:
                raise ValueError(f"the {split} split has other classes than the train split")
        listings = {
            split: listed_files(
                home,
                top,
                split,
                images=top / home.folder / images,
                # The images of Pets have another name. None of these has a public one.
                paths=getattr(dataset, "_images", None) or dataset._image_files,
                labels=dataset._labels,
                class_names=class_names,
            )
            for split, dataset in made.items()
        }
    return Splits(listings["train"], listings.get("validation"), listings.get("test"))


def listed_array(
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
