import json
import pickle

import pytest

from sgid.data.dataset import Dataset, SplitProtocol, check_splits, load_dataset
from sgid.data.listing import Splits
from sgid.data.sources.bundled import parquet
from sgid.data.sources.folder import folder
from tests.data.writers import encoded, picture, write_folder, write_parquet


def loaded(splits: Splits, cache, *, max_bad=0.05, seed=0, noun=None, **protocol) -> Dataset:
    return load_dataset(
        splits,
        SplitProtocol(**protocol),
        name="set",
        noun=noun,
        max_bad=max_bad,
        seed=seed,
        cache=cache,
    )


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
        "train_per_class": [3, 3],
        "train_drawn_from": 18,
        "pool_digest": loaded(splits, tmp_path / "cache").train.digest(),
        "shots": 3,
        "fraction": None,
        "imbalance": None,
        "seed": 0,
        "validation": 8,
        "test": 10,
        "note": "",
        "train_from": "the source's own train split",
        "validation_from": "the source's own split",
        "test_from": "the source's own split",
        "train_test_duplicates": 0,
        "left_out": {"count": 0, "first": []},
        "ignored_files": 0,
        "understood": "set: 2 classes; train 6; validation 8; test 10",
        "remarks": [],
    }


def test_validation_can_be_drawn_again_and_test_stays(one_place, tmp_path):
    first, other = (loaded(one_place, tmp_path, validation_seed=seed) for seed in (None, 7))
    assert loaded(one_place, tmp_path, validation_seed=0).fingerprint == first.fingerprint
    assert first.test.digest() == other.test.digest()
    assert len(first.validation) == len(other.validation)
    assert first.validation.digest() != other.validation.digest()
    assert not set(other.validation.keys) & {*other.train.keys, *other.test.keys}
    assert other.protocol["validation_from"].endswith("held out with seed 7")


def test_a_validation_split_of_the_source_is_not_drawn_again(tmp_path):
    splits = parquet(write_parquet(tmp_path, {"train": 9, "validation": 4, "test": 5}, ["a", "b"]))
    with pytest.raises(ValueError, match="dataset.validation_seed=1: the source has a validation"):
        loaded(splits, tmp_path / "cache", validation_seed=1)


def test_what_the_source_lacks_is_held_out_the_same_for_every_seed(one_place, tmp_path):
    first, other = (loaded(one_place, tmp_path, shots=5, seed=seed) for seed in (0, 1))
    assert (len(first.test), len(first.validation)) == (4 + 6, 2 + 2)
    assert first.test.digest() == other.test.digest()
    assert first.validation.digest() == other.validation.digest()
    assert first.train.digest() != other.train.digest()
    assert first.protocol["pool_digest"] == other.protocol["pool_digest"]
    whole = loaded(one_place, tmp_path)
    parts = [set(part.keys) for part in (whole.train, whole.validation, whole.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 50
    assert whole.test.digest() == first.test.digest()
    assert whole.protocol["test_from"] == "0.2 of each class of train, held out with seed 0"


def test_shots_do_not_move_the_held_out_images(one_place, tmp_path):
    few, more = (loaded(one_place, tmp_path, shots=shots) for shots in (2, 10))
    assert set(few.train.keys) < set(more.train.keys)
    assert few.validation.digest() == more.validation.digest()


def test_images_in_train_and_in_test_are_counted_and_kept(tmp_path):
    write_folder(tmp_path / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "test", {"a": 5, "b": 5}, first=3)
    data = loaded(folder(str(tmp_path)), tmp_path / "cache", validation=0.2)
    shared = {f"{name}/0{number}.png" for name in "ab" for number in (3, 4)}
    expected = sum(key.removeprefix("train/") in shared for key in data.train.keys)
    assert expected and data.protocol["train_test_duplicates"] == expected
    assert len(data.test) == 10
    told = f"{expected} training images are in the test set as well"
    assert told in data.protocol["remarks"]


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
    check_splits(one_place, SplitProtocol(shots=14))
    with pytest.raises(ValueError, match=r"dataset.shots=15 needs 15 .*: 'a' \(14\)"):
        check_splits(one_place, SplitProtocol(shots=15))
    with pytest.raises(ValueError, match="dataset.validation=1.5"):
        check_splits(one_place, SplitProtocol(validation=1.5))
    tiny = folder(str(write_folder(tmp_path / "tiny", {"a": 2, "b": 9})))
    with pytest.raises(ValueError, match=r"dataset.test=.* needs 3 .*'a' \(2\)"):
        check_splits(tiny, SplitProtocol())


def test_a_class_that_only_has_unreadable_images(tmp_path):
    for split in ("train", "val", "test"):
        write_folder(tmp_path / split, {"a": 3, "b": 3})
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "0.png").write_bytes(encoded(picture(2, 0))[:60])
    with pytest.raises(ValueError, match="without an image to train on: c"):
        loaded(folder(str(tmp_path)), tmp_path / "cache", max_bad=0.5)


def test_trainval_joins_the_sources_validation_split(tmp_path):
    splits = parquet(write_parquet(tmp_path, {"train": 9, "validation": 4, "test": 5}, ["a", "b"]))
    apart = loaded(splits, tmp_path / "cache")
    data = loaded(splits, tmp_path / "cache", trainval=True, validation=0.2)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 6, 10)
    assert {*data.train.keys, *data.validation.keys} == {*apart.train.keys, *apart.validation.keys}
    assert data.test.digest() == apart.test.digest()
    pictures = {s.key: s.image.tobytes() for part in (apart.train, apart.validation) for s in part}
    for sample in (*data.train, *data.validation):
        assert sample.image.tobytes() == pictures[sample.key]
    assert data.protocol["train_from"] == "the source's own train and validation split"
    assert data.protocol["validation_from"].startswith("0.2 of each class of train, held out")
    assert pickle.loads(pickle.dumps(data.train))[0] == data.train[0]


def test_trainval_needs_a_validation_split(one_place):
    with pytest.raises(ValueError, match=r"dataset.trainval=true: .* no validation split"):
        check_splits(one_place, SplitProtocol(trainval=True))


def test_train_per_class_leaves_the_rest_for_test(one_place, tmp_path):
    first, other = (loaded(one_place, tmp_path, train_per_class=10, seed=s) for s in (0, 1))
    assert (len(first.train), len(first.validation), len(first.test)) == (18, 2, 10 + 20)
    assert first.test.digest() == other.test.digest()
    assert first.protocol["test_from"].startswith("all but 10 images of each class of train")
    with pytest.raises(ValueError, match=r"train_per_class=20 needs 21 .*'a' \(20\)"):
        check_splits(one_place, SplitProtocol(train_per_class=20))
    own_test = Splits(one_place.train, None, one_place.train)
    with pytest.raises(ValueError, match=r"train_per_class=5 .* has its own"):
        check_splits(own_test, SplitProtocol(train_per_class=5))


def test_cuts_leave_the_held_out_images_alone_and_are_told(one_place, tmp_path):
    whole = loaded(one_place, tmp_path)
    for cut in ({"fraction": 0.5}, {"imbalance": 4}, {"shots": 3}):
        data = loaded(one_place, tmp_path, **cut)
        assert set(data.train.keys) < set(whole.train.keys)
        assert data.validation.digest() == whole.validation.digest()
        assert data.test.digest() == whole.test.digest()
        assert cut.items() <= data.protocol.items()


def test_only_one_cut():
    with pytest.raises(ValueError, match=r"dataset.shots=3, dataset.imbalance=10: give one"):
        SplitProtocol(shots=3, imbalance=10)


def test_phrases_are_names_with_the_noun(one_place, tmp_path):
    assert loaded(one_place, tmp_path, noun="flower").phrases == ("a flower", "b flower")
    assert loaded(one_place, tmp_path).phrases == ("a", "b")
