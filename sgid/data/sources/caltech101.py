"""Caltech-101 (Fei-Fei et al., 2004), fetched from Caltech. It has no split of its own."""

from __future__ import annotations

from pathlib import Path

from sgid.data.listing import Splits, words
from sgid.data.sources.builders import listed_files
from sgid.data.sources.download import DatasetInfo
from sgid.data.sources.folder import folders_in

HOME = DatasetInfo(
    option="caltech101",
    title="Caltech-101",
    size="137 MB",
    folder="caltech101",
    layout="""\
ROOT/caltech101/101_ObjectCategories/accordion/image_0001.jpg ...
or ROOT/101_ObjectCategories/accordion/image_0001.jpg ...""",
    elsewhere="Its archive, which holds another one, is at data.caltech.edu/records/mzrjq-6wc02.",
    hub="dpdl-benchmark/caltech101",
)
ARCHIVE = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
MD5 = "3138e1922a9193bfa496528edbbc45d0"
BACKGROUND = "BACKGROUND_Google"
# Both folders show the same faces; in the second they are cut to fill the image.
NAMES = {"Faces_easy": "Faces close up"}


def caltech101(root: str | None, download: bool = False) -> Splits:
    """101 classes of things, without the background class; images are ordered by their paths.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
    """
    top = HOME.top(root)
    place = top / "101_ObjectCategories"
    if not place.is_dir():
        top = HOME.find(root, download=download, fetch=_fetch)
        place = top / HOME.folder / "101_ObjectCategories"
    with HOME.reading(top):
        folders = [folder for folder in folders_in(place) if folder.name != BACKGROUND]
        images = [
            (path, label) for label, folder in enumerate(folders) for path in _images(folder, top)
        ]
        return Splits(
            train=listed_files(
                HOME,
                top,
                "train",
                images=place,
                paths=[path for path, _ in images],
                labels=[label for _, label in images],
                class_names=[NAMES.get(folder.name, words(folder.name)) for folder in folders],
            ),
            validation=None,
            test=None,
        )


def _images(folder: Path, top: Path) -> list[Path]:
    if images := sorted(folder.glob("image_*.jpg")):
        return images
    raise HOME.incomplete(top, f"{folder} holds no image_*.jpg")


def _fetch(place: Path) -> None:
    # Not by torchvision's class, which in older versions asks Google Drive.
    from torchvision.datasets.utils import download_and_extract_archive, extract_archive

    download_and_extract_archive(ARCHIVE, str(place), md5=MD5)
    inner = place / "caltech-101" / "101_ObjectCategories.tar.gz"
    extract_archive(str(inner), str(place / HOME.folder))
