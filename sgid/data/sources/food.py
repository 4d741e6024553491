"""Food-101 (Bossard et al., 2014), through torchvision."""

from __future__ import annotations

from sgid.data.listing import Splits, words
from sgid.data.sources.builders import torchvision_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="food",
    title="Food-101",
    size="5.0 GB",
    folder="food-101",
    layout="""\
ROOT/food-101/images/apple_pie/1005649.jpg ...
ROOT/food-101/meta/train.json  test.json""",
    hub="ethz/food101 dataset.source.test=validation dataset.noun=dish",
)


def food(root: str | None, download: bool = False) -> Splits:
    """101 dishes; 750 images of each to train, with some wrong labels, and 250 to test.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if its lists cannot be read.
    """
    from torchvision.datasets import Food101

    return torchvision_files(
        HOME,
        Food101,
        root,
        download=download,
        images="images",
        splits={"train": {"split": "train"}, "test": {"split": "test"}},
        names=lambda made: [words(name) for name in made.classes],
    )
