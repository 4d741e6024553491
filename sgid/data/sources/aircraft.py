"""FGVC-Aircraft (Maji et al., 2013), its variants, through torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from sgid.data.decode import decode
from sgid.data.listing import Splits
from sgid.data.sources.builders import portable, torchvision_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="aircraft",
    title="FGVC-Aircraft",
    size="2.8 GB",
    folder="fgvc-aircraft-2013b",
    layout="""\
ROOT/fgvc-aircraft-2013b/data/images/0034309.jpg ...
ROOT/fgvc-aircraft-2013b/data/variants.txt  manufacturers.txt
ROOT/fgvc-aircraft-2013b/data/images_variant_train.txt  _val.txt  _test.txt
ROOT/fgvc-aircraft-2013b/data/images_manufacturer_train.txt  _val.txt  _test.txt""",
    elsewhere="Its archive is at www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft.",
)
BANNER = 20
"""The height in pixels of the strip at the bottom of every image."""


def aircraft(root: str | None, download: bool = False) -> Splits:
    """100 variants; 3,334 images to train, 3,333 to validate, 3,333 to test.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if its lists cannot be read or do not fit together.
    """
    from torchvision.datasets import FGVCAircraft

    splits = torchvision_files(
        HOME,
        FGVCAircraft,
        root,
        download=download,
        images="data/images",
        splits={
            "train": {"split": "train"},
            "validation": {"split": "val"},
            "test": {"split": "test"},
        },
        names=_names,
    )
    return splits.each(
        lambda one: replace(one, origin=f"{one.origin}, cut", read=WithoutBanner(one.read))
    )


@final
@dataclass(frozen=True)
class WithoutBanner:
    """The images without the strip at the bottom that names the photographer.

    The set asks for it to be removed: it is no part of the aircraft, and may tell its class.
    """

    read: Callable[[int], bytes]

    def __call__(self, row: int) -> bytes:
        image = decode(self.read(row))
        return portable(np.asarray(image.crop((0, 0, image.width, image.height - BANNER))))


def _names(made: Any) -> list[str]:
    """`Boeing 707-320`: the variant, its manufacturer in front unless it begins with that."""
    makers = type(made)(made.root, made._split, annotation_level="manufacturer")
    maker_of = dict(zip(makers._image_files, makers._labels, strict=True))
    maker = {
        label: makers.classes[maker_of[file]]
        for file, label in zip(made._image_files, made._labels, strict=True)
    }
    return [named(variant, maker[label]) for label, variant in enumerate(made.classes)]


def named(variant: str, maker: str) -> str:
    """`707-320`, `Boeing` -> `Boeing 707-320`; `Saab 2000`, `Saab` -> `Saab 2000`."""
    if variant.lower().startswith(maker.split()[0].lower()):
        return variant
    return f"{maker} {variant}"
