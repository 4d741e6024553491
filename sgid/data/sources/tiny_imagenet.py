"""Tiny-ImageNet (Stanford's CS231n, 2015), in the set's own layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sgid.data.listing import Splits
from sgid.data.sources.builders import listed_files
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo(
    option="tiny_imagenet",
    title="Tiny-ImageNet",
    size="248 MB",
    folder="tiny-imagenet-200",
    layout="""\
ROOT/tiny-imagenet-200/wnids.txt  words.txt
ROOT/tiny-imagenet-200/train/n01443537/n01443537_boxes.txt  images/n01443537_0.JPEG ...
ROOT/tiny-imagenet-200/val/val_annotations.txt  images/val_0.JPEG ...""",
    elsewhere="""\
Its archive is at cs231n.stanford.edu/tiny-imagenet-200.zip. The copy on the Hugging Face hub,
zh-plus/tiny-imagenet, names its classes by codes (n01443537), which say nothing in a prompt.""",
)
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def tiny_imagenet(root: str | None, download: bool = False) -> Splits:
    """200 classes of things at 64×64; 500 images of each to train, 50 to test.

    The test images are the set's `val`, as is usual: the labels of its own `test` are not public.

    Raises:
        FileNotFoundError: if it is not there or cannot be fetched.
        ValueError: if its lists cannot be read or do not fit together.
    """
    top = HOME.find(root, download=download, fetch=_fetch)
    with HOME.reading(top):
        place = top / HOME.folder
        wnids = sorted((place / "wnids.txt").read_text().split())
        synonyms = {
            wnid: [word.strip() for word in text.split(",")]
            for wnid, text in _rows(place / "words.txt")
        }
        class_names = distinct({wnid: synonyms[wnid] for wnid in wnids})
        label = {wnid: index for index, wnid in enumerate(wnids)}
        # Each line names an image first: so an unpacking that was broken off is noticed.
        train = [
            (place / "train" / wnid / "images" / name, label[wnid])
            for wnid in wnids
            for name, *_ in _rows(place / "train" / wnid / f"{wnid}_boxes.txt")
        ]
        test = [
            (place / "val" / "images" / name, label[wnid])
            for name, wnid, *_ in _rows(place / "val" / "val_annotations.txt")
        ]
        listings = [
            listed_files(
                HOME,
                top,
                split,
                images=place / folder,
                paths=[path for path, _ in rows],
                labels=[own for _, own in rows],
                class_names=class_names,
                prefix=f"{folder}/",
            )
            for split, folder, rows in (("train", "train", train), ("test", "val", test))
        ]
    note = "test is the set's val part: the labels of its test part are not public"
    return Splits(listings[0], None, listings[1], note=note)


def distinct(synonyms: Mapping[str, Sequence[str]]) -> list[str]:
    """The first synonym of each class; more of them, in brackets, where classes share the first.

    Raises:
        ValueError: if two classes have all their synonyms in common.
    """
    shared = Counter(words[0] for words in synonyms.values())
    names = {
        wnid: words[0]
        if shared[words[0]] == 1 or not words[1:]
        else f"{words[0]} ({', '.join(words[1:])})"
        for wnid, words in synonyms.items()
    }
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    if twins := [wnid for wnid, name in names.items() if name in twice]:
        raise ValueError(
            f"words.txt gives {' and '.join(twins)} the same name, {names[twins[0]]!r}"
        )
    return list(names.values())


def _rows(file: Path) -> list[list[str]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line]


def _fetch(place: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(URL, str(place), md5=MD5)
