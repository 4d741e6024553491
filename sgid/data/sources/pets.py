"""Oxford-IIIT Pet (Parkhi et al., 2012), through torchvision."""

from __future__ import annotations

from typing import Any

from sgid.data.listing import Splits
from sgid.data.sources.builders import torchvision_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="pets",
    title="Oxford-IIIT Pet",
    size="811 MB",
    folder="oxford-iiit-pet",
    layout="""\
ROOT/oxford-iiit-pet/images/Abyssinian_1.jpg ...
ROOT/oxford-iiit-pet/annotations/trainval.txt  test.txt""",
    elsewhere="Both archives are at www.robots.ox.ac.uk/~vgg/data/pets.",
    hub="timm/oxford-iiit-pet dataset.source.label=label",
)


def pets(root: str | None, download: bool = False) -> Splits:
    """37 breeds of cats and dogs; 3,680 images to train, 3,669 to test.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if its lists cannot be read.
    """
    from torchvision.datasets import OxfordIIITPet

    return torchvision_files(
        HOME,
        OxfordIIITPet,
        root,
        download=download,
        images="images",
        splits={"train": {"split": "trainval"}, "test": {"split": "test"}},
        names=_names,
    )


def _names(made: Any) -> list[str]:
    """`Siamese cat`, `Beagle dog`: the breed, and the species that the lists say it is of."""
    species = dict(zip(made._labels, made._bin_labels, strict=True))
    return [
        f"{breed} {made.bin_classes[species[label]].lower()}"
        for label, breed in enumerate(made.classes)
    ]
