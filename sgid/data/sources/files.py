"""Listings of image files, from a set's own lists or from torchvision's reading of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgid.data.image_set import Texts
from sgid.data.listing import FileReader, Listing, Splits, stamp
from sgid.data.sources.home import Home


def listed(
    home: Home,
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
    home: Home,
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
            split: listed(
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
