"""A folder of images, one sub-folder per class, with or without splits.

Links are followed because sets are often put together from them, but never to a folder that holds
the place where the link was met: so there is no loop, and no way up and out by `..`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sgid.data.decode import image_extensions
from sgid.data.image_set import Texts
from sgid.data.listing import FileReader, Listing, Splits, from_file, printable, stamp

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


UNLABELLED = ("unlabelled",)


def unsplit(top: Path, class_names: Sequence[str], *, option: str) -> tuple[Listing, bool]:
    """List `top/<class>/**/<image>`, or `top/<image>`; and say whether there are classes.

    A folder is named as a class of `class_names`, or as one is by letters and digits alone, so that
    `t_shirt_top` is `T-shirt/top`. Files that are hidden or have no image's extension are passed
    over. `option` is the one that the messages name.

    Raises:
        ValueError: if there are no images, images beside class folders, an unknown class, or a
            folder whose name may stand for several classes.
    """
    beside = [path for path in sorted(top.iterdir()) if path.is_file() and _is_image(path)]
    below = [(folder, list(_image_files(folder))) for folder in folders_in(top)]
    below = [(folder, images) for folder, images in below if images]
    if beside and below:
        raise ValueError(
            f"{option}={top} holds images ({beside[0].name} ...) beside folders of images "
            f"({below[0][0].name} ...): sort all of them into class folders, or none"
        )
    if not beside and not below:
        raise ValueError(f"{option}={top} holds no images")
    if beside:
        return _unsplit_listing(top, [(path, 0) for path in beside], UNLABELLED), False
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        alike.setdefault(_plain(name), []).append(number)
    exact = {name: [number] for number, name in enumerate(class_names)}
    names = {folder: printable(from_file(folder.name)) for folder, _ in below}
    meant = {name: exact.get(name) or alike.get(_plain(name), []) for name in names.values()}
    for name, numbers in meant.items():
        if len(numbers) > 1:
            raise ValueError(
                f"{option}={top}: the folder {name} may be any of the classes "
                f"{', '.join(class_names[number] for number in numbers)}: name it as one of them"
            )
    if unknown := [name for name, numbers in meant.items() if not numbers]:
        raise ValueError(
            f"{option}={top} has folders that are no classes of the dataset: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; its classes are "
            f"{', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}"
        )
    found = [(path, meant[names[folder]][0]) for folder, images in below for path in images]
    return _unsplit_listing(top, found, tuple(class_names)), True


def _unsplit_listing(
    top: Path, found: Sequence[tuple[Path, int]], names: tuple[str, ...]
) -> Listing:
    return Listing(
        origin=str(top.absolute()),
        keys=Texts(from_file(path.relative_to(top).as_posix()) for path, _ in found),
        labels=tuple(label for _, label in found),
        stamps=Texts(stamp(path) for path, _ in found),
        class_names=names,
        read=FileReader(Texts(str(path.absolute()) for path, _ in found)),
    )


def _image_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(files_below(folder)) if _is_image(path))


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in image_extensions()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def folders_in(top: Path) -> list[Path]:
    """The folders in `top` that are not hidden, by name."""
    return sorted(path for path in top.iterdir() if _is_folder(path, top))


def files_below(top: Path) -> Iterator[Path]:
    """Every file below `top` at any depth; hidden folders are not entered.

    Each real folder is entered once, by its own path rather than by a link where it has one below
    `top`. A link to nothing counts as a file, so that it is missed where it is read.
    """
    entered: set[Path] = set()
    folders, links = [top], []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        real = folder.resolve()
        if real in entered:
            continue
        entered.add(real)
        for path in sorted(folder.iterdir()):
            if _is_folder(path, folder, top):
                (links if path.is_symlink() else folders).append(path)
            elif path.is_file() or (path.is_symlink() and not path.exists()):
                yield path


def _is_folder(path: Path, *places: Path) -> bool:
    if path.name.startswith(".") or not path.is_dir():
        return False
    if not path.is_symlink():
        return True
    target = path.resolve()
    return not any(place.resolve().is_relative_to(target) for place in places)
