"""Sets of the Hugging Face hub, from folders and from its cache; nothing asks the hub."""

import json
import shutil

import pytest

from sgid.data.decode import decode
from sgid.data.sources.huggingface import hub
from tests.data.formats.hub import parts_of, rows_of, saved, write_hub, write_hub_parquet
from tests.data.writers import write_folder

pytestmark = pytest.mark.usefixtures("cache")


COUNTS = {"train": 3, "validation": 1, "test": 2}


@pytest.mark.parametrize("write", [write_hub, write_hub_parquet])
def test_folders(tmp_path, write):
    written = write(tmp_path / "set", **COUNTS)
    listings = hub(str(tmp_path / "set")).present()
    for split, images in written.items():
        assert listings[split].class_names == ("tabby cat", "basset", "horse")
        assert set(listings[split].keys) == set(images)
        data = listings[split].read(4 % len(images))
        assert decode(data).size == (48, 40)


def test_a_parquet_file_and_a_folder_of_images(tmp_path):
    write_hub_parquet(tmp_path / "set", **COUNTS)
    file = tmp_path / "set" / "data" / "train-00000-of-00001.parquet"
    splits = hub(str(file))
    assert len(splits.train.keys) == 9 and splits.test is None
    root = write_folder(tmp_path / "images" / "train", {"cat": 2, "dog": 2})
    train = hub(str(tmp_path / "images")).train
    assert train.class_names == ("cat", "dog") and train.labels == (0, 0, 1, 1)
    assert train.read(3) == (root / "dog" / "01.png").read_bytes()


def test_a_single_part_saved_to_disk(tmp_path):
    parts, _ = parts_of(train=2)
    parts["train"].save_to_disk(tmp_path / "set")
    splits = hub(str(tmp_path / "set"))
    assert len(splits.train.keys) == 6 and splits.validation is None


def test_images_stay_on_disk(tmp_path):
    """The reader holds a map of the files, in which each row is as quick to have as the next."""
    write_hub(tmp_path / "set", **COUNTS)
    rows = hub(str(tmp_path / "set")).train.read.rows
    assert type(rows.data).__name__ == "MemoryMappedTable"


# -- the hub's cache -----------------------------------------------------------------------------


def fetched(cache, commit="a" * 40, config="default", **counts):
    """Have owner/My-Set in the cache, as `load_dataset` leaves it."""
    from datasets import load_dataset

    source = cache.parent / f"source{len(list(cache.parent.iterdir()))}"
    write_hub_parquet(source, **{**COUNTS, **counts})
    load_dataset(str(source), cache_dir=str(cache / "prepared"))
    (info,) = (cache / "prepared").rglob("dataset_info.json")
    place = cache / "owner___my-set" / config / "0.0.0" / commit
    shutil.copytree(info.parent, place)
    for arrow in place.glob("*.arrow"):
        arrow.rename(place / arrow.name.replace(source.name, "my-set"))
    facts = json.loads(info.read_text())
    facts |= {"dataset_name": "my-set", "config_name": config}
    (place / "dataset_info.json").write_text(json.dumps(facts))
    shutil.rmtree(cache / "prepared")
    shutil.rmtree(source)
    return place


def test_what_was_fetched_is_found(cache):
    fetched(cache)
    splits = hub("owner/my-set")
    assert [len(part.keys) for part in splits.present().values()] == [9, 3, 6]
    assert decode(splits.train.read(0)).size == (48, 40)


def test_the_revision_is_the_one_that_is_asked_for(cache):
    fetched(cache, "a" * 40, train=2)
    fetched(cache, "b" * 40, train=5)
    assert len(hub("owner/my-set").train.keys) == 15
    assert len(hub("owner/my-set", revision="a" * 40).train.keys) == 6
    reference = cache.parent / "hub" / "datasets--owner--my-set" / "refs" / "v1"
    reference.parent.mkdir(parents=True)
    reference.write_text("a" * 40)
    assert len(hub("owner/my-set", revision="v1").train.keys) == 6
    with pytest.raises(FileNotFoundError, match="revision=v2 is not in the cache"):
        hub("owner/my-set", revision="v2")


def test_several_configurations(cache):
    fetched(cache, config="small", train=2)
    fetched(cache, config="large", train=4)
    assert len(hub("owner/my-set", config="large").train.keys) == 12
    with pytest.raises(ValueError, match="dataset.source.config=; there are large, small"):
        hub("owner/my-set")


def test_what_was_not_fetched():
    with pytest.raises(FileNotFoundError) as caught:
        hub("owner/other", config="small")
    assert "not in the cache" in str(caught.value)
    fetch = "python run.py stage=fetch aug=none dataset=hub dataset.source.id=owner/other"
    assert f"{fetch} dataset.source.config=small" in str(caught.value)


def test_a_hub_that_cannot_be_reached():
    with pytest.raises(FileNotFoundError, match="owner/other could not be fetched") as caught:
        hub("owner/other", download=True)  # HF_HUB_OFFLINE is set in tests
    assert "hf download owner/other --repo-type dataset" in str(caught.value)


def test_no_id_and_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset.source.id is not given"):
        hub(None)
    with pytest.raises(FileNotFoundError, match="/nowhere is not there"):
        hub(str(tmp_path / "nowhere"))


def test_damaged_folders(tmp_path):
    write_hub(tmp_path / "set", **COUNTS)
    (tmp_path / "set" / "train" / "state.json").unlink()
    with pytest.raises(FileNotFoundError, match="is incomplete: .*train"):
        hub(str(tmp_path / "set"))
    write_hub_parquet(tmp_path / "files", **COUNTS)
    file = tmp_path / "files" / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match="files cannot be loaded"):
        hub(str(tmp_path / "files"))


# -- splits --------------------------------------------------------------------------------------


def test_splits_are_found_by_name_or_said(tmp_path):
    parts, _ = parts_of(train=2, valid=1)
    parts.save_to_disk(tmp_path / "set")
    id = str(tmp_path / "set")
    splits = hub(id)
    assert splits.validation is not None and splits.test is None
    splits = hub(id, test="valid")
    assert splits.validation is None and len(splits.test.keys) == 3
    assert splits.test.keys[0] == "test/0" and "(valid)" in splits.test.origin
    assert hub(id, validation=False).validation is None
    with pytest.raises(ValueError, match="dataset.source.test=dev is none of .*: train, valid"):
        hub(id, test="dev")
    with pytest.raises(ValueError, match="used twice: .*test=train"):
        hub(id, train="train", test="train")


def test_what_to_train_on_must_be_clear(tmp_path):
    parts, _ = parts_of(full=2, extra=1)
    parts.save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match="splits full, extra: say which .*dataset.source.train="):
        hub(str(tmp_path / "set"))
    splits = hub(str(tmp_path / "set"), train="full")
    assert len(splits.train.keys) == 6
    assert "left out: the splits extra, which are none of ours by name" in splits.remarks


def test_a_split_without_labels(tmp_path):
    from datasets import DatasetDict

    parts, _ = parts_of(train=2, test=1)
    unlabelled = parts["test"].map(lambda row: {"label": -1})
    DatasetDict(train=parts["train"], test=unlabelled).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match="3 of 3 images have no label.*dataset.source.test=false"):
        hub(str(tmp_path / "set"))
    assert hub(str(tmp_path / "set"), test=False).test is None


# -- columns -------------------------------------------------------------------------------------


def test_keys_are_those_of_the_set_if_they_identify(tmp_path, kinds):
    features = {"image": kinds["image"], "label": kinds["class"], "image_id": kinds["text"]}
    rows = rows_of([0, 1], image_id=["x.jpg", "y.jpg"])
    assert hub(saved(tmp_path / "a", rows, features)).train.keys == ("train/x.jpg", "train/y.jpg")
    rows = rows_of([0, 1], image_id=["x.jpg", "x.jpg"])
    assert hub(saved(tmp_path / "b", rows, features)).train.keys == ("train/0", "train/1")


def test_a_row_without_an_image(tmp_path, kinds):
    rows = rows_of([0, 1])
    rows[1]["image"] = None
    id = saved(tmp_path / "set", rows, {"image": kinds["image"], "label": kinds["class"]})
    with pytest.raises(ValueError, match="the row holds no image"):
        hub(id).train.read(1)


def test_a_split_of_another_name_is_noted(tmp_path, kinds):
    features = {"image": kinds["image"], "label": kinds["class"]}
    root = saved(tmp_path / "set", rows_of([0, 1]), features, split="dev")
    assert hub(root, train="dev").note == "train is the split dev"
    assert hub(saved(tmp_path / "own", rows_of([0, 1]), features)).note == ""
