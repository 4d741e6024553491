"""The whole of Fashion-MNIST (Xiao et al., 2017), from torchvision's folder or a plain one."""

from __future__ import annotations

import gzip
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from sgid.data.listing import Splits
from sgid.data.sources.builders import listed_array
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="fashion_mnist",
    title="Fashion-MNIST",
    size="31 MB",
    folder="FashionMNIST",
    layout="""\
ROOT/train-images-idx3-ubyte  train-labels-idx1-ubyte
ROOT/t10k-images-idx3-ubyte   t10k-labels-idx1-ubyte
or those four files with .gz, or either in ROOT/FashionMNIST/raw/""",
    elsewhere="""\
Debian's package dataset-fashion-mnist has it: dataset.root=/usr/share/datasets/fashion-mnist.""",
    hub="zalando-datasets/fashion_mnist",
)
PARTS = {"train": "train", "test": "t10k"}
# The set itself numbers its classes only. These are the words of the bundled excerpt.
NAMES = (
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def fashion_mnist(root: str | None, download: bool = False) -> Splits:
    """10 classes of clothes at 28×28, grey; 60,000 images to train, 10,000 to test.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if a file is damaged.
    """
    top = HOME.top(root)
    place = top
    if not any(top.glob("train-images-idx3-ubyte*")):
        top = HOME.find(root, download=download, fetch=_fetch)
        place = top / HOME.folder / "raw"
    listings = {}
    with HOME.reading(top):
        for split, part in PARTS.items():
            images, labels = (
                _file(place, f"{part}-{kind}")
                for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
            )
            listings[split] = listed_array(
                place,
                split,
                files=[images, labels],
                labels=_idx(labels).tolist(),
                class_names=NAMES,
                load=partial(_idx, images),
                images=_idx(images),
            )
    return Splits(listings["train"], None, listings["test"])


def _fetch(place: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(place, download=True)


def _file(place: Path, name: str) -> Path:
    """`name`, or else `name.gz`."""
    plain = place / name
    return plain if plain.is_file() else place / f"{name}.gz"


def _idx(file: Path) -> np.ndarray:
    """The uint8 array in an IDX file: two zeros, type, rank, the sizes as big-endian, the values.

    Raises:
        ValueError: if the file is anything else, or is truncated.
    """
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    rank = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = tuple(np.frombuffer(data, ">u4", rank, offset=4).tolist()) if rank else ()
    if not rank or len(data) != 4 + 4 * rank + prod(shape):
        raise ValueError(f"{file} is no IDX file of bytes, or is truncated")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
