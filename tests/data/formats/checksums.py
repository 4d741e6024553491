"""Torchvision's checks of the original files, applied to those that tests write."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def accept(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Have torchvision take the files below `root` for the originals, and no others.

    Its checks stay as they are: a file that is changed later is refused.
    """
    from torchvision.datasets import CIFAR10, CIFAR100, STL10, Flowers102

    for owner in (CIFAR10, CIFAR100, STL10):
        place = root / owner.base_folder
        if not place.is_dir():
            continue
        for attribute in ("train_list", "test_list"):
            names = [name for name, _ in getattr(owner, attribute)]
            patch.setattr(owner, attribute, [[name, md5(place / name)] for name in names])
    for owner in (CIFAR10, CIFAR100):
        meta = root / owner.base_folder / owner.meta["filename"]
        if meta.is_file():
            patch.setattr(owner, "meta", {**owner.meta, "md5": md5(meta)})
    lists = root / "flowers-102"
    if lists.is_dir():
        files = {
            kind: (name, md5(lists / name) if kind != "image" else checksum)
            for kind, (name, checksum) in Flowers102._file_dict.items()
        }
        patch.setattr(Flowers102, "_file_dict", files)
