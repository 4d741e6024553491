"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), through torchvision."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgid.data.listing import Splits, words
from sgid.data.sources.builders import listed_array
from sgid.data.sources.download import DatasetInfo

if TYPE_CHECKING:
    import numpy as np
    from torchvision.datasets import CIFAR10

TEN = DatasetInfo(
    option="cifar10",
    title="CIFAR-10",
    size="170 MB",
    folder="cifar-10-batches-py",
    layout="""\
ROOT/cifar-10-batches-py/batches.meta
ROOT/cifar-10-batches-py/data_batch_1 ... data_batch_5
ROOT/cifar-10-batches-py/test_batch""",
    elsewhere="Its archive is at www.cs.toronto.edu/~kriz/cifar.html, which can be slow.",
    hub="uoft-cs/cifar10",
)

HUNDRED = DatasetInfo(
    option="cifar100",
    title="CIFAR-100",
    size="169 MB",
    folder="cifar-100-python",
    layout="""\
ROOT/cifar-100-python/meta
ROOT/cifar-100-python/train
ROOT/cifar-100-python/test""",
    elsewhere="Its archive is at www.cs.toronto.edu/~kriz/cifar.html, which can be slow.",
    hub="uoft-cs/cifar100 dataset.source.label=fine_label",
)


def cifar10(root: str | None, download: bool = False) -> Splits:
    """10 classes of things at 32×32; 50,000 images to train, 10,000 to test.

    Raises:
        FileNotFoundError: if it is not there, is not the original, or cannot be fetched.
    """
    from torchvision.datasets import CIFAR10

    return _cifar(TEN, CIFAR10, root, download)


def cifar100(root: str | None, download: bool = False) -> Splits:
    """100 classes of things at 32×32; 50,000 images to train, 10,000 to test.

    Raises:
        FileNotFoundError: if it is not there, is not the original, or cannot be fetched.
    """
    from torchvision.datasets import CIFAR100

    return _cifar(HUNDRED, CIFAR100, root, download)


def _cifar(home: DatasetInfo, make: type[CIFAR10], root: str | None, download: bool) -> Splits:
    top = home.find(root, download=download, fetch=partial(make, download=True))
    place = top / home.folder
    listings = {}
    # The files are pickles: torchvision opens none that is not the original by its checksum.
    with home.reading(top):
        for split, names in (("train", make.train_list), ("test", make.test_list)):
            made = make(top, train=split == "train")
            listings[split] = listed_array(
                place,
                split,
                files=[place / name for name, _ in names],
                labels=made.targets,
                class_names=[words(name) for name in made.classes],
                load=partial(_images, make, top, split),
                images=made.data,
            )
    return Splits(listings["train"], None, listings["test"])


def _images(make: type[CIFAR10], top: Path, split: str) -> np.ndarray:
    return make(top, train=split == "train").data
