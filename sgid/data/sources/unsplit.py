"""A folder of images that belong to no split: with a folder for each class, or without labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sgid.data.decode import image_extensions
from sgid.data.image_set import Texts
from sgid.data.listing import FileReader, Listing, from_file, printable, stamp
from sgid.data.walk import files_below, folders_in

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
    below = [(folder, list(_images(folder))) for folder in folders_in(top)]
    below = [(folder, images) for folder, images in below if images]
    if beside and below:
        raise ValueError(
            f"{option}={top} holds images ({beside[0].name} ...) beside folders of images "
            f"({below[0][0].name} ...): sort all of them into class folders, or none"
        )
    if not beside and not below:
        raise ValueError(f"{option}={top} holds no images")
    if beside:
        return _listing(top, [(path, 0) for path in beside], UNLABELLED), False
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
    return _listing(top, found, tuple(class_names)), True


def _listing(top: Path, found: Sequence[tuple[Path, int]], names: tuple[str, ...]) -> Listing:
    return Listing(
        origin=str(top.absolute()),
        keys=Texts(from_file(path.relative_to(top).as_posix()) for path, _ in found),
        labels=tuple(label for _, label in found),
        stamps=Texts(stamp(path) for path, _ in found),
        class_names=names,
        read=FileReader(Texts(str(path.absolute()) for path, _ in found)),
    )


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(files_below(folder)) if _is_image(path))


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in image_extensions()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()
