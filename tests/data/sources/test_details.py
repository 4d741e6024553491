"""Details of single sets: folds, places, names."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import Flowers102

from sgid.data.sources.aircraft import named
from sgid.data.sources.builders import portable
from sgid.data.sources.bundled import fashion
from sgid.data.sources.tiny_imagenet import distinct
from tests.data.formats import on_disk
from tests.data.formats.arrays import write_fashion_mnist
from tests.data.sources.test_conf import source

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_arrays_are_encoded_without_loss_in_formats_that_pillow_knows(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.open(io.BytesIO(portable(pixels.transpose(1, 0, *range(2, len(shape))))))
    assert image.format == "PPM" and image.size == (5, 7)
    assert np.array_equal(np.asarray(image).swapaxes(0, 1), pixels)


def test_folds_of_dtd(tmp_path):
    with on_disk("dtd", tmp_path, train=2, validation=1, test=2) as written:
        first = source("dtd", root=str(tmp_path))
        other = source("dtd", root=str(tmp_path), source={"fold": 2})
        assert set(first.train.keys) == set(written["train"])
        assert set(other.train.keys) == set(written["test"])
        with pytest.raises(Exception, match="dataset.source.fold=11 must be from 1 to 10"):
            source("dtd", root=str(tmp_path), source={"fold": 11})


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_places_of_fashion_mnist(tmp_path, place, packed):
    sizes = {"train": 2, "validation": 0, "test": 1}
    written = write_fashion_mnist(tmp_path, **sizes, place=place, packed=packed)
    train = source("fashion_mnist", root=str(tmp_path)).train
    assert set(train.keys) == set(written["train"])
    assert train.read(3).startswith(b"P5 28 28 255\n")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist():
    """The bundled test images are those of the real set, with a border of two pixels."""
    real, bundled = source("fashion_mnist", root=str(DEBIAN)), fashion()
    assert (len(real.train.keys), len(real.test.keys)) == (60_000, 10_000)
    assert real.train.class_names == bundled.train.class_names
    assert real.test.labels == bundled.test.labels
    for row in (0, 123, 9_999):
        pixels = np.asarray(Image.open(io.BytesIO(bundled.test.read(row))).convert("L"))
        ours = np.asarray(Image.open(io.BytesIO(real.test.read(row))))
        assert np.array_equal(pixels[2:-2, 2:-2], ours)


def test_places_of_caltech101(tmp_path):
    with on_disk("caltech101", tmp_path, train=2, validation=0, test=1) as written:
        inside = source("caltech101", root=str(tmp_path / "caltech101")).train
        assert set(inside.keys) == set(written["train"])
        (tmp_path / "caltech101" / "101_ObjectCategories" / "wild_cat" / "Thumbs.db").touch()
        assert source("caltech101", root=str(tmp_path)).train.keys == inside.keys
        assert inside.keys == tuple(sorted(inside.keys))
        assert "BACKGROUND" not in "".join(inside.class_names)


def test_names_of_flowers_are_words(tmp_path):
    with on_disk("flowers", tmp_path):
        names = source("flowers", root=str(tmp_path)).train.class_names
    assert names[:2] == ("pink primrose", "hard-leaved pocket orchid")
    everything = [name.rstrip("?") for name in Flowers102.classes]
    assert len(set(everything)) == 102
    assert all(re.fullmatch(r"[a-z' -]+", name) for name in everything)


@pytest.mark.parametrize(
    ("variant", "maker", "name"),
    [
        ("707-320", "Boeing", "Boeing 707-320"),
        ("Gulfstream IV", "Gulfstream Aerospace", "Gulfstream IV"),
        ("ATR-42", "ATR", "ATR-42"),
        ("DH-82", "de Havilland", "de Havilland DH-82"),
        ("A300B4", "Airbus", "Airbus A300B4"),
    ],
)
def test_names_of_aircraft(variant, maker, name):
    assert named(variant, maker) == name


def test_synonyms_only_where_they_are_needed():
    synonyms = {
        "n1": ["crane"],
        "n2": ["crane", "hoist"],
        "n3": ["goldfish", "Carassius auratus"],
        "n4": ["crane", "wader", "bird"],
    }
    assert distinct(synonyms) == ["crane", "crane (hoist)", "goldfish", "crane (wader, bird)"]


def test_stl10_does_without_the_unlabelled_images(tmp_path):
    with on_disk("stl10", tmp_path, train=2, validation=0, test=1) as written:
        (tmp_path / "stl10_binary" / "unlabeled_X.bin").unlink()
        assert set(source("stl10", root=str(tmp_path)).test.keys) == set(written["test"])


def test_classes_of_tiny_imagenet_are_ordered_by_their_ids(tmp_path):
    with on_disk("tiny_imagenet", tmp_path, train=1, validation=0, test=1):
        train = source("tiny_imagenet", root=str(tmp_path)).train
        assert train.class_names == ("goldfish", "crane", "crane (hoist)", "go-kart")
