"""Stanford Cars (Krause et al., 2013) in its own layout: 196 classes, 8,144 + 8,041 images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sgid.data.listing import FileReader, Listing, Splits, stamp

HOW_TO_GET = """Stanford Cars must be fetched by hand, since its home server is gone. Expected is
  ROOT/cars_train/00001.jpg ...                    8,144 images
  ROOT/cars_test/00001.jpg ...                     8,041 images
  ROOT/devkit/cars_meta.mat
  ROOT/devkit/cars_train_annos.mat
  ROOT/cars_test_annos_withlabels.mat              or in devkit/
or all of that in ROOT/stanford_cars. Say where with dataset.root=ROOT.
The images are on Kaggle (jessicali9530/stanford-cars-dataset); the devkit and the labels of the
test images are linked from github.com/pytorch/vision/issues/7545. Kaggle's
cyizhuo/stanford-cars-by-classes-folder is the same set as a folder per class: use that with
dataset=folder, and likewise for tanganke/stanford_cars of the Hugging Face hub, written to disk."""


def cars(root: str | None) -> Splits:
    """List Stanford Cars' train and test split. Class names are make, model, type and year.

    Raises:
        FileNotFoundError: if `root`, an annotation file or an annotated image is not there.
        ValueError: if an annotation file cannot be read.
    """
    if not root:
        raise FileNotFoundError(f"dataset.root is not given.\n{HOW_TO_GET}")
    top = Path(root).expanduser().absolute()
    if not top.is_dir():
        raise FileNotFoundError(f"dataset.root={root} is not there.\n{HOW_TO_GET}")
    class_names = tuple(map(str, _mat(_annotations(top, "cars_meta.mat"), "class_names")))
    train = _annotations(top, "cars_train_annos.mat")
    test = _annotations(top, "cars_test_annos_withlabels.mat")
    return Splits(
        train=_listing("train", _images(top, "cars_train"), train, class_names),
        validation=None,
        test=_listing("test", _images(top, "cars_test"), test, class_names),
    )


def _listing(split: str, folder: Path, file: Path, class_names: tuple[str, ...]) -> Listing:
    annotations = _mat(file, "annotations")
    names = [str(name) for name in annotations["fname"]]
    labels = [int(number) - 1 for number in annotations["class"]]  # MATLAB counts from 1
    if not all(0 <= label < len(class_names) for label in labels):
        raise ValueError(f"{file} has classes beyond the {len(class_names)} of cars_meta.mat")
    there = set(os.listdir(folder))  # so no name can lead out of the folder
    if missing := [name for name in names if name not in there]:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing):,} of the {len(names):,} images that {file.name} names, "
            f"the first is {missing[0]}.\n{HOW_TO_GET}"
        )
    paths = [os.path.join(folder, name) for name in names]
    return Listing(
        origin=str(folder),
        keys=tuple(f"{split}/{name}" for name in names),
        labels=tuple(labels),
        stamps=tuple(stamp(path) for path in paths),
        class_names=class_names,
        read=FileReader(tuple(paths)),
    )


def _annotations(top: Path, name: str) -> Path:
    return _find(top, f"car_devkit/devkit/{name}", name, f"devkit/{name}")


def _images(top: Path, name: str) -> Path:
    return _find(top, f"{name}/{name}", name)  # Kaggle's archive unpacks to two levels


def _find(top: Path, *names: str) -> Path:
    for home in (top, top / "stanford_cars"):
        for name in names:
            if (home / name).exists():
                return home / name
    raise FileNotFoundError(f"{top} has no {names[-1]}.\n{HOW_TO_GET}")


def _mat(file: Path, variable: str) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(file, squeeze_me=True)[variable]
    # A damaged file makes scipy raise nearly anything: ValueError, TypeError, zlib.error, ...
    except Exception as error:
        raise ValueError(f"{file} cannot be read as the devkit's: {error!r}") from error
