import json
import logging

import pytest

from sgid.data.datasets import Dataset, check, load
from sgid.data.folder import folder
from sgid.data.listing import Splits
from sgid.data.parquet import parquet
from tests.data.writers import encoded, picture, write_folder, write_parquet


def loaded(splits: Splits, cache, **options) -> Dataset:
    defaults = {"shots": None, "validation": 0.1, "test": 0.2, "max_bad": 0.05, "seed": 0}
    return load(splits, name="set", cache=cache, **{**defaults, **options})


@pytest.fixture
def one_place(tmp_path):
    return folder(str(write_folder(tmp_path / "set", {"a": 20, "b": 30})))


def test_the_sources_own_splits(tmp_path):
    splits = parquet(write_parquet(tmp_path, {"train": 9, "validation": 4, "test": 5}, ["a", "b"]))
    data = loaded(splits, tmp_path / "cache", shots=3)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 8, 10)
    assert data.class_names == ("a", "b")
    assert data.protocol == {
        "name": "set",
        "classes": 2,
        "train": 6,
        "train_drawn_from": 18,
        "shots": 3,
        "seed": 0,
        "validation": 8,
        "test": 10,
        "validation_from": "the source's own split",
        "test_from": "the source's own split",
        "train_test_duplicates": 0,
        "left_out": {"count": 0, "first": []},
        "ignored_files": 0,
    }


def test_what_the_source_lacks_is_held_out_the_same_for_every_seed(one_place, tmp_path):
    first, other = (loaded(one_place, tmp_path, shots=5, seed=seed) for seed in (0, 1))
    assert (len(first.test), len(first.validation)) == (4 + 6, 2 + 2)
    assert first.test.digest() == other.test.digest()
    assert first.validation.digest() == other.validation.digest()
    assert first.train.digest() != other.train.digest()
    whole = loaded(one_place, tmp_path)
    parts = [set(part.keys) for part in (whole.train, whole.validation, whole.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 50
    assert whole.test.digest() == first.test.digest()
    assert whole.protocol["test_from"] == "0.2 of each class of train, held out with seed 0"


def test_shots_do_not_move_the_held_out_images(one_place, tmp_path):
    few, more = (loaded(one_place, tmp_path, shots=shots) for shots in (2, 10))
    assert set(few.train.keys) < set(more.train.keys)
    assert few.validation.digest() == more.validation.digest()


def test_images_in_train_and_in_test_are_counted_and_kept(tmp_path, caplog):
    write_folder(tmp_path / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "test", {"a": 5, "b": 5}, first=3)
    with caplog.at_level(logging.WARNING):
        data = loaded(folder(str(tmp_path)), tmp_path / "cache", validation=0.2)
    shared = {f"{name}/0{number}.png" for name in "ab" for number in (3, 4)}
    expected = sum(key.removeprefix("train/") in shared for key in data.train.keys)
    assert expected and data.protocol["train_test_duplicates"] == expected
    assert len(data.test) == 10
    assert f"{expected} training images are in the test set as well" in caplog.text


def test_what_is_left_out_and_passed_over_is_told(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 60, "b": 60})
    for number in range(25):
        (root / "a" / f"bad{number:02}.png").write_bytes(b"")
    (root / "a" / "notes.txt").write_text("")
    data = loaded(folder(str(root)), tmp_path / "cache", max_bad=0.2)
    left_out = data.protocol["left_out"]
    assert left_out["count"] == 25 and len(left_out["first"]) == 20
    assert left_out["first"][0] == "a/bad00.png: not a readable image: the file is empty"
    assert data.protocol["ignored_files"] == 1
    assert json.loads(json.dumps(data.protocol)) == data.protocol


def test_too_small_classes_are_told_before_anything_is_read(one_place, tmp_path):
    check(one_place, shots=14, validation=0.1, test=0.2)
    with pytest.raises(ValueError, match=r"'a' has 14 images .*dataset.shots=15"):
        check(one_place, shots=15, validation=0.1, test=0.2)
    with pytest.raises(ValueError, match="dataset.validation=1.5"):
        check(one_place, shots=None, validation=1.5, test=0.2)
    tiny = folder(str(write_folder(tmp_path / "tiny", {"a": 2, "b": 9})))
    with pytest.raises(ValueError, match=r"'a' has 1 image.*dataset.validation"):
        check(tiny, shots=None, validation=0.1, test=0.2)


def test_a_class_that_only_has_unreadable_images(tmp_path):
    for split in ("train", "val", "test"):
        write_folder(tmp_path / split, {"a": 3, "b": 3})
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "0.png").write_bytes(encoded(picture(2, 0))[:60])
    with pytest.raises(ValueError, match="without an image to train on: c"):
        loaded(folder(str(tmp_path)), tmp_path / "cache", max_bad=0.5)
