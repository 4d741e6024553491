"""Pixels are kept once, and are those that decoding gives."""

import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from sgid.data.image_set import ImageSet
from sgid.data.pixel_cache import Decoded
from tests.data.writers import encoded

SIZES = [(8, 8), (31, 7), (1, 1), (200, 150), (3, 64)] * 5


class Counted:
    """Bytes of images, counting how often each is read."""

    def __init__(self, data):
        self.data = data
        self.reads = Counter()

    def __call__(self, row):
        self.reads[row] += 1
        return self.data[row]


def picture(index, size):
    noise = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise)


@pytest.fixture
def images():
    data = [encoded(picture(index, size)) for index, size in enumerate(SIZES)]
    rows = tuple(range(len(data)))
    names = tuple(map(str, rows))
    return ImageSet(names, (0,) * len(rows), names, ("a",), rows, Counted(data))


def same(pictures, images):
    expected = [(one.size, one.tobytes()) for one in (images[i].image for i in range(len(images)))]
    return [(pictures[i].size, pictures[i].tobytes()) for i in range(len(pictures))] == expected


def kept(images, folder, limit=1e9):
    pictures = Decoded(images, folder)
    pictures.keep(limit)
    return pictures


def test_each_image_is_decoded_once_for_all_that_ask(images, tmp_path):
    first = kept(images, tmp_path)
    assert first[3].size == (200, 150) and first[3].mode == "RGB"
    second = kept(images, tmp_path)
    third = pickle.loads(pickle.dumps(second))  # as a process that is spawned gets it
    for pictures in (first, second, third):
        assert [pictures[i].tobytes() for i in range(25)]
    assert images.read.reads == Counter(range(25))
    third.images = images
    assert all(same(pictures, images) for pictures in (first, second, third))
    assert len(list(tmp_path.iterdir())) == 1
    pixels = sum(3 * width * height for width, height in SIZES)
    assert first.bytes_kept == pixels + 16 * 25 + 8


def test_a_picture_may_be_written_to(images, tmp_path):
    pictures = kept(images, tmp_path)
    pictures[0].paste((1, 2, 3), (0, 0, 8, 8))
    assert same(pictures, images)


def test_what_does_not_fit_is_decoded_each_time(images, tmp_path):
    first = [3 * width * height for width, height in SIZES[:4]]
    pictures = kept(images, tmp_path, limit=sum(first) + 3 * 16 + 8)  # the fourth has no line
    images.read.reads.clear()
    assert [pictures[i].size for i in range(25)] == SIZES
    assert images.read.reads == Counter(range(3, 25))
    assert pictures.bytes_kept <= sum(first) + 3 * 16 + 8
    images.read.reads.clear()
    same_again = kept(images, tmp_path, limit=sum(first) + 4 * 16 + 7)
    assert images.read.reads == Counter([3]) and same(same_again, images)
    images.read.reads.clear()
    more = kept(images, tmp_path)  # a larger limit
    assert sum(images.read.reads.values()) == 26
    fewer = kept(images, tmp_path, limit=1)  # what is there is taken
    images.read.reads.clear()
    assert more[24].size == fewer[24].size == SIZES[24] and not images.read.reads


@pytest.mark.parametrize("options", [{"limit": 0}, {"folder": None}])
def test_nothing_is_written_where_nothing_is_to_be_kept(images, tmp_path, options):
    pictures = kept(images, **{"folder": tmp_path, **options})
    assert same(pictures, images) and not list(tmp_path.iterdir()) and pictures.bytes_kept == 0


def cut(data):
    return data[:-5]


def longer(data):
    return data + b"12345678"


def other_count(data):
    return data[:-8] + (24).to_bytes(8, "little")


def huge_count(data):
    return data[:-8] + b"\xff" * 8


def other_width(data):
    return data[:-16] + (7).to_bytes(8, "little") + data[-8:]


def nothing(data):
    return b""


@pytest.mark.parametrize("damage", [cut, longer, other_count, huge_count, other_width, nothing])
def test_a_damaged_file_is_made_again(images, tmp_path, damage):
    path = kept(images, tmp_path).path
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert same(kept(images, tmp_path), images) and path.read_bytes() == whole


def test_other_images_have_another_file(images, tmp_path):
    for some in (images, images.select([3, 1]), images.select([1, 3])):
        assert same(kept(some, tmp_path), some)
    assert len(list(tmp_path.iterdir())) == 3


def test_stopped_it_leaves_nothing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(images.read, "data", images.read.data[:20])
    with pytest.raises(IndexError):
        kept(images, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_told(images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="(?s)cannot be kept in .*trainer.cache_gib=0"):
        kept(images, tmp_path / "file" / "decoded")
