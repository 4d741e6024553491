"""Images that are damaged, hostile or strange: each is used rightly, or named and left out."""

from __future__ import annotations

import faulthandler
import os
import socket
import tracemalloc
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgid.data import listing as listings
from sgid.data.decode import MAX_PIXELS, decode
from sgid.data.listing import commands
from sgid.data.scan import scan
from sgid.data.sources.folder import folder
from tests.data.images import CLASSES, FORMS, NAMES, bad, good, strange_names
from tests.data.writers import encoded, picture, write_folder

WHOLE = {form: encoded(picture(3, 3, 24), form) for form in FORMS}


def scanned(root, cache, *, max_bad=0.99):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scan(folder(str(root)).train, max_bad=max_bad, cache=cache)


@st.composite
def damaged(draw) -> bytes:
    """A real file with bytes flipped, cut out, put in, or cut off."""
    data = bytearray(WHOLE[draw(st.sampled_from(FORMS))])
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["flip", "zero", "cut", "insert", "remove", "number"])):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "zero":
                data[at : at + 8] = bytes(len(data[at : at + 8]))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "remove":
                del data[at : at + draw(st.integers(1, 64))]
            case "number":  # as in a width, a length, an offset
                data[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150)
@given(damaged())
def test_damaged_bytes_are_a_picture_or_a_reason(data):
    try:
        image = decode(data)
    except ValueError as error:
        assert str(error) and "0x" not in str(error)
        assert "\n" not in str(error)
    else:
        assert image.mode == "RGB" and image.width * image.height <= MAX_PIXELS
        assert len(image.tobytes()) == 3 * image.width * image.height


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(good()))
def test_strange_images_are_used_in_little_memory(name):
    data = good()[name]
    tracemalloc.start()
    try:
        image = decode(data)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert image.mode == "RGB" and min(image.size) >= 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(bad()))
def test_bad_images_are_refused_in_little_memory(name):
    data = bad()[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="image|pixels"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 2**26 + len(data)
    finally:
        tracemalloc.stop()


@pytest.fixture
def impatient():
    """A minute, and then the end of all tests: a read that waits for ever cannot be broken off."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "set", {"a": 10, "b": 10})


@pytest.mark.usefixtures("impatient")
def test_what_is_no_file_is_never_waited_for(root, tmp_path, monkeypatch):
    """A pipe, a socket, a device, and links of all kinds, each with the name of an image."""
    monkeypatch.chdir(root / "a")  # the path of a socket must be short
    os.mkfifo("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.jpg")
    for name, target in {
        "to pipe.jpg": "pipe.jpg",
        "device.jpg": "/dev/zero",
        "self.jpg": "self.jpg",
        "one.jpg": "other.jpg",
        "other.jpg": "one.jpg",
        "gone.jpg": "nowhere.jpg",
        "up": "..",
        "here": ".",
        "round": "round",
    }.items():
        os.symlink(target, name)
    (root / "a" / "folder.jpg").mkdir()
    (root / "a" / "folder.jpg" / "within.png").write_bytes(encoded(picture(7, 7)))
    before = sorted(tmp_path.rglob("*"))
    images, left_out = scanned(root, tmp_path / "cache")
    assert len(images) == 21 and "a/folder.jpg/within.png" in list(images.keys)
    assert set(left_out) == {f"a/{name}.jpg" for name in ("self", "one", "other", "gone")}
    assert all(one.problem.startswith("cannot be read: ") for one in left_out.values())
    made = set(tmp_path.rglob("*")) - set(before)
    assert made and all(path.is_relative_to(tmp_path / "cache") for path in made)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_became_a_pipe_or_grew_is_named(root, tmp_path, monkeypatch):
    listed = folder(str(root)).train
    (root / "a" / "00.png").unlink()
    os.mkfifo(root / "a" / "00.png")
    monkeypatch.setattr(listings, "MAX_BYTES", 4096)
    with (root / "a" / "01.png").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    (root / "a" / "02.png").unlink()
    (root / "a" / "02.png").symlink_to("/dev/zero")
    images, left_out = scan(listed, max_bad=0.5, cache=tmp_path / "cache")
    assert len(images) == 17
    assert {key: one.problem for key, one in left_out.items()} == {
        "a/00.png": "not an ordinary file",
        "a/01.png": "1,099,511,627,776 bytes, more than the 4,096 that are allowed",
        "a/02.png": "not an ordinary file",
    }


def test_strange_names_are_keys_that_a_terminal_shows(root, tmp_path):
    strange_names(root / "b" / "\x1b[2Jdeep\n")
    images, left_out = scanned(root, tmp_path / "cache")
    assert left_out == {} and len(images) == 20 + len(NAMES) + 1
    assert not any(commands(key) for key in images.keys)
    keys = {key.rpartition("/")[2] for key in images.keys}
    assert "new\\nline.png" in keys and "\\x1b[31mred\\x1b[0m.png" in keys
    assert "bytes \\xff\\xfe.png" in keys and "\\u202egnp.exe.png" in keys
    for index in range(len(images)):
        assert images[index].image.mode == "RGB"
    again, _ = scanned(root, tmp_path / "cache")
    assert again.digest() == images.digest()


def test_strange_class_names_are_names(tmp_path):
    root = write_folder(tmp_path / "set", {name: 2 for name in (*CLASSES, "\x1b[31mred\x1b[0m")})
    images, _ = scanned(root, tmp_path / "cache")
    assert "\\x1b[31mred\\x1b[0m" in images.class_names
    assert set(CLASSES) < set(images.class_names)
    assert not any(map(commands, images.class_names))


def test_damaged_bytes_in_a_parquet_file_of_the_hub_are_named(tmp_path):
    """The paths in it as well: `datasets` keeps those of images that it does not embed."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sgid.data.sources.huggingface import hub

    os.mkfifo(tmp_path / "pipe.png")
    cells = [{"bytes": data, "path": None} for data in [*good().values(), *bad().values()]]
    paths = ("/dev/zero", str(tmp_path / "pipe.png"), str(tmp_path), "/nowhere.png", "a\0b")
    cells += [*({"bytes": None, "path": path} for path in paths), None]
    classes = datasets.ClassLabel(names=["x", "y"])
    schema = datasets.Features({"image": datasets.Image(), "label": classes}).arrow_schema
    rows = [{"image": cell, "label": index % 2} for index, cell in enumerate(cells)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "set.parquet")
    listed = hub(str(tmp_path / "set.parquet"), validation=False, test=False).train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images, left_out = scan(listed, max_bad=0.9, cache=tmp_path / "cache")
    bad_rows = [one for one in left_out.values() if one.problem]
    assert len(images) == len(good()) and len(bad_rows) == len(cells) - len(good())
