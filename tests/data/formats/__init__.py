"""Small sets on disk, each in the real layout of the set that it stands for.

    with on_disk("flowers", folder) as written:
        ...  # `python run.py dataset=flowers dataset.root=folder` finds it

Pictures are about 48×40, or of the set's own size where that is fixed; there are three classes or
more. `WRITERS[name](folder, train=10, validation=4, test=4)` writes so many images of each class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.data.formats.arrays import (
    write_cifar10,
    write_cifar100,
    write_fashion_mnist,
    write_stl10,
)
from tests.data.formats.checksums import accept
from tests.data.formats.files import (
    write_aircraft,
    write_caltech101,
    write_cars_set,
    write_dtd,
    write_flowers,
    write_food,
    write_image_folder,
    write_pets,
)
from tests.data.formats.hub import write_hub
from tests.data.formats.lists import write_cub, write_tiny_imagenet
from tests.data.formats.written import Writer, Written

WRITERS: dict[str, Writer] = {
    "aircraft": write_aircraft,
    "caltech101": write_caltech101,
    "cars": write_cars_set,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "cub": write_cub,
    "dtd": write_dtd,
    "fashion_mnist": write_fashion_mnist,
    "flowers": write_flowers,
    "folder": write_image_folder,
    "food": write_food,
    "hub": write_hub,
    "pets": write_pets,
    "stl10": write_stl10,
    "tiny_imagenet": write_tiny_imagenet,
}


@contextmanager
def on_disk(
    name: str, root: Path, *, train: int = 10, validation: int = 4, test: int = 4
) -> Iterator[Written]:
    """Write set `name` to `root`; its files count as the original ones as long as this is open."""
    written = WRITERS[name](root, train=train, validation=validation, test=test)
    with pytest.MonkeyPatch.context() as patch:
        accept(patch, root)
        yield written
