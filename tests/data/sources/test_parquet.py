import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sgid.data.decode import decode
from sgid.data.sources.bundled import parquet
from tests.data.writers import write_parquet

NAMES = ["t-shirt", "ankle boot"]


def test_splits_keys_labels_and_class_names(tmp_path):
    write_parquet(tmp_path, {"train": 3, "validation": 2, "test": 1}, NAMES)
    splits = parquet(tmp_path)
    assert {split: len(listing.keys) for split, listing in splits.present().items()} == {
        "train": 6,
        "validation": 4,
        "test": 2,
    }
    assert splits.train.class_names == tuple(NAMES)
    assert splits.train.keys[4] == "train/1/1" and splits.train.labels[4] == 1
    assert decode(splits.train.read(4)).size == (8, 8)


def test_every_row_is_read_as_it_was_written(tmp_path):
    write_parquet(tmp_path, {"train": 40}, NAMES)
    rows = pq.read_table(tmp_path / "train.parquet")["image"].to_pylist()
    read = parquet(tmp_path).train.read
    assert [read(i) for i in range(80)] == [row["bytes"] for row in rows]


def test_the_reader_travels_to_another_process_without_the_images(tmp_path):
    write_parquet(tmp_path, {"train": 40}, NAMES)
    read = parquet(tmp_path).train.read
    data = read(3)
    assert len(pickle.dumps(read)) < 1000
    assert pickle.loads(pickle.dumps(read))(3) == data


def test_it_opens_in_datasets_as_well(tmp_path):
    from datasets import load_dataset

    write_parquet(tmp_path / "set", {"train": 2}, NAMES)
    loaded = load_dataset(
        "parquet", data_files=str(tmp_path / "set/train.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert loaded.features["label"].names == NAMES and loaded[0]["image"].size == (8, 8)


def test_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="train.parquet does not exist"):
        parquet(tmp_path)


def test_two_images_with_one_key(tmp_path):
    write_parquet(tmp_path, {"train": 2}, NAMES)
    table = pq.read_table(tmp_path / "train.parquet")
    twice = table.set_column(2, "key", pa.array(["one", "two", "three", "two"]))
    pq.write_table(twice, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="train.parquet: 2 images have the key 'two'"):
        parquet(tmp_path)


def test_wrong_columns_labels_and_classes(tmp_path):
    write_parquet(tmp_path, {"train": 2}, NAMES)
    file = tmp_path / "train.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["key"]), file)
    with pytest.raises(ValueError, match="no column key"):
        parquet(tmp_path)
    pq.write_table(table.replace_schema_metadata(None), file)
    with pytest.raises(ValueError, match="does not name its classes"):
        parquet(tmp_path)
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, -1, None])), file)
    with pytest.raises(ValueError, match="has labels"):
        parquet(tmp_path)
    write_parquet(tmp_path, {"train": 2}, NAMES)
    write_parquet(tmp_path / "other", {"test": 2}, ["bag", "coat"])
    (tmp_path / "other" / "test.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match="other classes"):
        parquet(tmp_path)
