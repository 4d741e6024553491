"""`dataset.size`: images are shrunk once, and are others than the whole ones to what follows."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from sgid.data.dataset import SplitProtocol, load_dataset
from sgid.data.sources.folder import folder

SIZES = [(300, 200), (40, 900), (64, 64), (20, 24), (9, 3000)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    top = tmp_path_factory.mktemp("photos") / "set"
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for number, (width, height) in enumerate(SIZES * 2):
            place = top / name / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            levels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(levels).save(place)
    return top


def load(root, cache, size, **protocol):
    splits = folder(str(root))
    return load_dataset(
        splits, SplitProtocol(**protocol), name="set", max_bad=0, seed=0, cache=cache / "scans",
        size=size,
    )  # fmt: skip


def test_the_shorter_side_has_at_most_as_many_pixels(root, tmp_path):
    whole, small = load(root, tmp_path, None), load(root, tmp_path, 32)
    seen = set()
    for part in ("train", "validation", "test"):
        for one, shrunk in zip(getattr(whole, part), getattr(small, part), strict=True):
            assert (one.key, one.label) == (shrunk.key, shrunk.label)
            before, after = one.image.size, shrunk.image.size
            seen.add((before, after))
            if min(before) <= 32 and max(before) <= 8 * min(before):
                assert one.image.tobytes() == shrunk.image.tobytes()  # never enlarged
            if before == (300, 200):
                again = one.image.resize((48, 32), Image.Resampling.LANCZOS)
                assert again.tobytes() == shrunk.image.tobytes()
    # Of what is longer than 8 to 1 the centre.
    assert {*seen} == {
        ((300, 200), (48, 32)), ((40, 900), (32, 256)), ((64, 64), (32, 32)),
        ((20, 24), (20, 24)), ((9, 3000), (9, 72)),
    }  # fmt: skip


def test_it_is_done_once_and_is_part_of_what_a_run_is(root, tmp_path, monkeypatch):
    whole, small, other = (load(root, tmp_path, size) for size in (None, 32, 16))
    assert len({one.fingerprint for one in (whole, small, other)}) == 3
    assert len({one.train.digest() for one in (whole, small, other)}) == 3
    assert (small.protocol["size"], "size" in whole.protocol) == (32, False)
    pixels = small.train[0].image.tobytes()
    with monkeypatch.context() as patch:
        patch.setattr("sgid.data.shrink._png", lambda *_: pytest.fail("shrunk again"))
        assert load(root, tmp_path, 32).train[0].image.tobytes() == pixels
    assert pickle.loads(pickle.dumps(small.train))[0].image.tobytes() == pixels
    for file in (tmp_path / "shrunk").iterdir():  # as a full disk or a crash may leave them
        os.truncate(file, file.stat().st_size - 100)
    assert load(root, tmp_path, 32).train[0].image.tobytes() == pixels


def test_copies_are_still_found(root, tmp_path):
    (root / "dog" / "copy.png").write_bytes((root / "cat" / "0.png").read_bytes())
    try:
        data = load(root, tmp_path, 32, duplicates="train")
        assert any("0.png" in remark for remark in data.protocol["remarks"])
    finally:
        (root / "dog" / "copy.png").unlink()


def test_a_place_that_cannot_be_written_is_named(root, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sgid.data.shrink._write", full)
    with pytest.raises(ValueError, match=r"dataset.size=32: .*No space left.*paths.artifacts"):
        load(root, tmp_path, 32)
    assert not list((tmp_path / "shrunk").glob("*.arrow"))
