"""CUB-200-2011 (Wah et al., 2011): birds, in the set's own layout."""

from __future__ import annotations

from pathlib import Path

from sgid.data.listing import Splits, words
from sgid.data.sources.builders import listed_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="cub",
    title="CUB-200-2011",
    size="1.2 GB",
    folder="CUB_200_2011",
    layout="""\
ROOT/CUB_200_2011/images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg ...
ROOT/CUB_200_2011/classes.txt  images.txt  image_class_labels.txt  train_test_split.txt""",
    elsewhere="Its archive is at data.caltech.edu/records/65de6-vp158.",
    hub="bentrevett/caltech-ucsd-birds-200-2011 dataset.noun=bird",
)
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"


def cub(root: str | None, download: bool = False) -> Splits:
    """200 birds; 5,994 images to train, 5,794 to test.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if its lists cannot be read or do not fit together.
    """
    top = HOME.find(root, download=download, fetch=_fetch)
    with HOME.reading(top):
        place = top / HOME.folder
        names = _list(place / "classes.txt")
        number_of = _list(place / "image_class_labels.txt")
        trains = _list(place / "train_test_split.txt")
        label = {number: index for index, number in enumerate(names)}
        rows = [
            (place / "images" / path, label[number_of[image]], trains[image] == "1")
            for image, path in _list(place / "images.txt").items()
        ]
        train, test = (
            listed_files(
                HOME,
                top,
                split,
                images=place / "images",
                paths=[path for path, _, in_train in rows if in_train is (split == "train")],
                labels=[own for _, own, in_train in rows if in_train is (split == "train")],
                class_names=[words(name) for name in names.values()],
            )
            for split in ("train", "test")
        )
    return Splits(train, None, test)


def _list(file: Path) -> dict[str, str]:
    """The lines of `file`, each a number, a space and what it is the number of."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line)


def _fetch(place: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(URL, str(place), md5=MD5)
