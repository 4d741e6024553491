"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from sgid.data.decode import image_extensions
from sgid.data.image_set import Texts
from sgid.data.listing import FileReader, Listing, Splits, from_file, stamp
from sgid.data.walk import files_below, folders_in

LAYOUT = """Expected is one folder per class, either all in one place or in train/, val/, test/:
  ROOT/<class>/*.jpg
  ROOT/train/<class>/*.jpg  ROOT/val/<class>/*.jpg  ROOT/test/<class>/*.jpg
Say where with dataset.root=ROOT."""

_SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


# In front of every class's name where a set numbers its folders; else it may belong to a name.
_NUMBER = re.compile(r"\d+\.(?=\D)")


class _Image(NamedTuple):
    key: str
    path: Path
    class_name: str


def folder(root: str | None) -> Splits:
    """List `root/<class>/**/<image>`, or that below `train/`, `val/` and `test/`.

    Classes are named for their folders, `_` read as a space; where every folder's name begins with
    a number, as in `001.Black_footed_Albatross`, without it. Keys are paths relative to `root`.
    Both are NFC, hence the same on every file system. Files that are hidden, lie in no class
    folder, or have no image's extension are counted and passed over.

    Raises:
        FileNotFoundError: if `root` is not given or not there.
        ValueError: if it does not hold images of two or more classes in one of the layouts.
    """
    if not root:
        raise FileNotFoundError(f"dataset.root is not given.\n{LAYOUT}")
    top = Path(root).expanduser().absolute()
    if not top.is_dir():
        what = "is not a folder" if top.exists() else "does not exist"
        raise FileNotFoundError(f"dataset.root={root} {what}.\n{LAYOUT}")

    places = _places(top)
    names = [path.name for place in places.values() for path in folders_in(place)]
    numbered = all(_NUMBER.match(name) for name in names)
    found: dict[str, list[_Image]] = {}
    ignored = 0
    for split, place in places.items():
        found[split], passed_over = _images(place, top, numbered=numbered)
        ignored += passed_over
    class_names = tuple(sorted({image.class_name for image in found["train"]}))
    if len(class_names) < 2:
        what = f"images of one class only, {class_names[0]!r}" if class_names else "no images"
        raise ValueError(f"{places['train']} holds {what} in class folders.\n{LAYOUT}")

    listings: dict[str, Listing] = {}
    for split, images in found.items():
        if not images:
            raise ValueError(
                f"{places[split]} holds no images in class folders, so they have no labels: sort "
                f"them into class folders, or move {places[split].name}/ away.\n{LAYOUT}"
            )
        if unknown := sorted({image.class_name for image in images} - set(class_names)):
            raise ValueError(
                f"{places[split]} has classes that {places['train']} has not: "
                f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}"
            )
        listings[split] = _listing(places[split], sorted(images), class_names)
    return Splits(
        train=listings["train"],
        validation=listings.get("validation"),
        test=listings.get("test"),
        ignored=ignored,
    )


def _places(top: Path) -> dict[str, Path]:
    """The folder of each split.

    `train` may be a class as well, beside `bus` and `car`: it is a split where another split
    stands beside it, or nothing else does.
    """
    folders = folders_in(top)
    places: dict[str, Path] = {}
    for path in folders:
        split = _SPLITS.get(path.name.lower())
        if split in places:
            raise ValueError(f"{places[split]} and {path} are the same split: move one away")
        if split:
            places[split] = path
    if "train" in places and (len(places) > 1 or len(folders) == 1):
        return places
    return {"train": top}


def _images(place: Path, top: Path, *, numbered: bool) -> tuple[list[_Image], int]:
    """The images in the class folders of `place`, and how many other files there are."""
    images: list[_Image] = []
    ignored = sum(path.is_file() for path in place.iterdir())
    folder_of: dict[str, Path] = {}
    for class_folder in folders_in(place):
        name = from_file(class_folder.name)
        name = _NUMBER.sub("", name) if numbered else name
        class_name = " ".join(name.replace("_", " ").split()) or "_"
        before = len(images)
        for path in files_below(class_folder):
            if path.name.startswith(".") or path.suffix.lower() not in image_extensions():
                ignored += 1
            else:
                key = from_file(path.relative_to(top).as_posix())
                images.append(_Image(key, path, class_name))
        if len(images) > before and folder_of.setdefault(class_name, class_folder) != class_folder:
            raise ValueError(
                f"{folder_of[class_name]} and {class_folder} are both read as the class "
                f"{class_name!r}: rename or merge them"
            )
    return images, ignored


def _listing(place: Path, images: list[_Image], class_names: tuple[str, ...]) -> Listing:
    label = {class_name: index for index, class_name in enumerate(class_names)}
    return Listing(
        origin=str(place),
        keys=Texts(image.key for image in images),
        labels=tuple(label[image.class_name] for image in images),
        stamps=Texts(stamp(image.path) for image in images),
        class_names=class_names,
        read=FileReader(Texts(str(image.path) for image in images)),
    )
