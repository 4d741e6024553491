"""STL-10 (Coates et al., 2011), through torchvision. Its unlabelled images are not used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgid.data.listing import Splits, words
from sgid.data.sources.builders import listed_array
from sgid.data.sources.download import DatasetInfo

if TYPE_CHECKING:
    from torchvision.datasets import STL10

HOME = DatasetInfo(
    option="stl10",
    title="STL-10",
    size="2.6 GB",
    folder="stl10_binary",
    layout="""\
ROOT/stl10_binary/class_names.txt
ROOT/stl10_binary/train_X.bin  train_y.bin  test_X.bin  test_y.bin""",
    elsewhere="""\
Its archive is at ai.stanford.edu/~acoates/stl10. Most of that is unlabeled_X.bin, which is not
needed.""",
    hub="tanganke/stl10",
)


def stl10(root: str | None, download: bool = False) -> Splits:
    """10 classes of things at 96×96; 5,000 images to train, 8,000 to test.

    Raises:
        FileNotFoundError: if it is not there, is not the original, or cannot be fetched.
        ValueError: if its files do not fit together.
    """
    top = HOME.find(root, download=download, fetch=partial(_made, split="train", download=True))
    place = top / HOME.folder
    listings = {}
    with HOME.reading(top):
        names = (place / "class_names.txt").read_text().split("\n")
        for split in ("train", "test"):
            made = _made(top, split)
            listings[split] = listed_array(
                place,
                split,
                files=[place / f"{split}_{part}.bin" for part in "Xy"],
                labels=np.asarray(made.labels).tolist(),
                class_names=[words(name) for name in names if name],
                load=partial(_images, top, split),
                images=made.data.transpose(0, 2, 3, 1),  # (N, 3, H, W) -> (N, H, W, 3)
            )
    return Splits(listings["train"], None, listings["test"])


def _made(top: Path, split: str, download: bool = False) -> STL10:
    from torchvision.datasets import STL10

    class Labelled(STL10):
        """Looks for the labelled images only, and so does not checksum 2.6 GB at every start."""

        train_list = [file for file in STL10.train_list if "unlabeled" not in file[0]]

    return Labelled(top, split=split, download=download)


def _images(top: Path, split: str) -> np.ndarray:
    return _made(top, split).data.transpose(0, 2, 3, 1)
