"""Oxford Flowers-102 (Nilsback & Zisserman, 2008), through torchvision."""

from __future__ import annotations

from sgid.data.listing import Splits
from sgid.data.sources.builders import torchvision_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="flowers",
    title="Flowers-102",
    size="345 MB",
    folder="flowers-102",
    layout="""\
ROOT/flowers-102/jpg/image_00001.jpg ...
ROOT/flowers-102/imagelabels.mat
ROOT/flowers-102/setid.mat""",
    elsewhere="All three are at www.robots.ox.ac.uk/~vgg/data/flowers/102; jpg/ is 102flowers.tgz.",
    hub="dpdl-benchmark/oxford_flowers102 dataset.noun=flower",
)


def flowers(root: str | None, download: bool = False) -> Splits:
    """102 flowers; 10 images of each to train, 10 to validate, the other 6,149 to test.

    Raises:
        FileNotFoundError: if it is not there, is not the original, or cannot be fetched.
        ValueError: if its lists do not fit together.
    """
    from torchvision.datasets import Flowers102

    # The set itself numbers its classes only. Torchvision has doubts of one name.
    names = [name.rstrip("?") for name in Flowers102.classes]
    return torchvision_files(
        HOME,
        Flowers102,
        root,
        download=download,
        images="jpg",
        splits={
            "train": {"split": "train"},
            "validation": {"split": "val"},
            "test": {"split": "test"},
        },
        names=lambda made: names[: max(made._labels) + 1],
    )
