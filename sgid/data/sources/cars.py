"""Stanford Cars (Krause et al., 2013) in its own layout: 196 classes, 8,144 + 8,041 images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgid.data.listing import Listing, Splits
from sgid.data.sources.builders import listed_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="cars",
    title="Stanford Cars",
    size=None,
    folder="stanford_cars",
    layout="""\
ROOT/cars_train/00001.jpg ...                    8,144 images
ROOT/cars_test/00001.jpg ...                     8,041 images
ROOT/devkit/cars_meta.mat
ROOT/devkit/cars_train_annos.mat
ROOT/cars_test_annos_withlabels.mat              or in devkit/
or all of that in ROOT/stanford_cars.""",
    elsewhere="""\
Its home server is gone. The images are on Kaggle (jessicali9530/stanford-cars-dataset); the devkit
and the labels of the test images are linked from github.com/pytorch/vision/issues/7545. Kaggle's
cyizhuo/stanford-cars-by-classes-folder has a folder per class: use that with dataset=folder.""",
    hub="tanganke/stanford_cars dataset.noun=car",
)


def cars(root: str | None) -> Splits:
    """List Stanford Cars' train and test split. Class names are make, model, type and year.

    Raises:
        FileNotFoundError: if `root`, an annotation file or an annotated image is not there.
        ValueError: if an annotation file cannot be read.
    """
    top = HOME.top(root)
    if not top.is_dir():
        raise HOME.missing(f"dataset.root={root} is not there.")
    class_names = tuple(map(str, _mat(_annotations(top, "cars_meta.mat"), "class_names")))
    train = _annotations(top, "cars_train_annos.mat")
    test = _annotations(top, "cars_test_annos_withlabels.mat")
    return Splits(
        train=_listing(top, "train", train, class_names),
        validation=None,
        test=_listing(top, "test", test, class_names),
    )


def _listing(top: Path, split: str, file: Path, class_names: tuple[str, ...]) -> Listing:
    annotations = _mat(file, "annotations")
    # Kaggle's archive unpacks to two levels.
    images = _find(top, f"cars_{split}/cars_{split}", f"cars_{split}")
    with HOME.reading(top):
        return listed_files(
            HOME,
            top,
            split,
            images=images,
            paths=[images / str(name) for name in annotations["fname"]],
            labels=[int(number) - 1 for number in annotations["class"]],  # MATLAB counts from 1
            class_names=class_names,
            prefix=f"{split}/",
        )


def _annotations(top: Path, name: str) -> Path:
    return _find(top, f"car_devkit/devkit/{name}", name, f"devkit/{name}")


def _find(top: Path, *names: str) -> Path:
    for home in (top, top / "stanford_cars"):
        for name in names:
            if (home / name).exists():
                return home / name
    raise HOME.missing(f"{top} has no {names[-1]}.")


def _mat(file: Path, variable: str) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(file, squeeze_me=True)[variable]
    # A damaged file makes scipy raise nearly anything: ValueError, TypeError, zlib.error, ...
    except Exception as error:
        raise ValueError(f"{file} cannot be read as the devkit's: {error!r}") from error
