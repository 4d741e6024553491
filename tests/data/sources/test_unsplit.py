"""Folders of images without splits: matched to classes that are known, or without labels."""

import os
import shutil

import pytest

from sgid.data.sources.folder import folder, unsplit
from tests.data.writers import write_folder

NAMES = ("T-shirt/top", "ankle boot")


def test_class_folders_are_matched_by_letters_and_digits(tmp_path):
    top = write_folder(tmp_path, {"ankle_boot": 2, "t_shirt top": 1})
    listing, labelled = unsplit(top, NAMES, option="o")
    assert labelled and listing.class_names == NAMES and sorted(listing.labels) == [0, 1, 1]
    by_key = dict(zip(listing.keys, listing.labels, strict=True))
    assert all(label == ("boot" in key) for key, label in by_key.items())
    assert len(listing.read(0)) > 50


def test_images_beside_no_folders_have_no_labels(tmp_path):
    top = write_folder(tmp_path, {"ankle_boot": 3})
    listing, labelled = unsplit(top / "ankle_boot", NAMES, option="o")
    assert not labelled and len(listing.keys) == 3


def test_what_cannot_be_told_apart_is_an_error(tmp_path):
    top = write_folder(tmp_path, {"ankle_boot": 1, "bag": 1})
    with pytest.raises(ValueError, match="no classes of the dataset: bag; its classes are T-sh"):
        unsplit(top, NAMES, option="o")
    shutil.copy(next((top / "bag").iterdir()), top)
    with pytest.raises(ValueError, match="beside folders of images"):
        unsplit(top, NAMES, option="o")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        unsplit(tmp_path / "empty", NAMES, option="o")


def test_a_name_that_is_there_exactly_is_meant_and_one_that_may_be_several_is_an_error(tmp_path):
    names = ("c", "c++", "ankle boot")
    top = write_folder(tmp_path, {"c": 1, "c++": 2})
    listing, _ = unsplit(top, names, option="o")
    assert sorted(listing.labels) == [0, 1, 1]
    (top / "c").rename(top / "C_")
    with pytest.raises(ValueError, match=r"folder C_ may be any of the classes c, c\+\+: name"):
        unsplit(top, names, option="o")


def test_names_that_are_no_text_are_used_as_they_are_elsewhere(tmp_path):
    """Class folders and files as a stranger's machine wrote them, which `dataset=folder` takes."""
    write_folder(tmp_path, {"coat": 2, "bag": 2})
    place = os.fsencode(tmp_path)
    os.rename(place + b"/coat", place + b"/caf\xe9_\x1b[2J")
    os.rename(place + b"/bag", place + b"/cafe\xcc\x81")
    for number, name in enumerate(sorted(os.listdir(place + b"/caf\xe9_\x1b[2J"))):
        inner = place + b"/caf\xe9_\x1b[2J/"
        os.rename(inner + name, inner + b"%d\xff.png" % number)
    own = folder(str(tmp_path)).train
    listing, labelled = unsplit(tmp_path, own.class_names, option="o")
    assert labelled and all(map(str.isprintable, listing.keys)) and "".join(listing.keys).encode()

    def by_key(one):
        rows = enumerate(zip(one.keys, one.labels, strict=True))
        return sorted((key, label, one.read(row)) for row, (key, label) in rows)

    assert by_key(listing) == by_key(own)
