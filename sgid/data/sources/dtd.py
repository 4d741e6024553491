"""The Describable Textures Dataset (Cimpoi et al., 2014), through torchvision."""

from __future__ import annotations

from dataclasses import replace

from sgid.data.listing import Splits, words
from sgid.data.sources.builders import torchvision_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="dtd",
    title="DTD",
    size="625 MB",
    folder="dtd",
    layout="""\
ROOT/dtd/dtd/images/banded/banded_0002.jpg ...
ROOT/dtd/dtd/labels/train1.txt  val1.txt  test1.txt ... test10.txt""",
    elsewhere="Its archive, to unpack in ROOT/dtd, is at www.robots.ox.ac.uk/~vgg/data/dtd.",
    hub="tanganke/dtd dataset.noun=texture",
)
FOLDS = range(1, 11)


def dtd(root: str | None, download: bool = False, fold: int = 1) -> Splits:
    """47 textures; 1,880 images each to train, to validate and to test, as `fold` of ten says.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if there is no such fold, or a list cannot be read.
    """
    from torchvision.datasets import DTD

    if fold not in FOLDS:
        raise ValueError(f"dataset.source.fold={fold} must be from {FOLDS[0]} to {FOLDS[-1]}")
    splits = torchvision_files(
        HOME,
        DTD,
        root,
        download=download,
        images="dtd/images",
        splits={
            split: {"split": part, "partition": fold}
            for split, part in (("train", "train"), ("validation", "val"), ("test", "test"))
        },
        names=lambda made: [words(name) for name in made.classes],
    )
    # What a fold's images are like is remembered apart from the other folds'.
    listed = splits.each(lambda one: replace(one, origin=f"{one.origin}, fold {fold}"))
    return replace(listed, note=f"fold {fold} of {len(FOLDS)}")
