"""Stores: written once, resumed after a kill, and open in other people's tools."""

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path, write_atomic
from sgid.store.store import Store

SPEC = {"kind": "test", "steps": 3, "name": "é"}


def make(parent: Path, rows: int = 7, shard_size: int = 3) -> Store:
    columns = pa.schema({"key": pa.string(), "value": pa.float64()}.items())
    return Store(parent, SPEC, columns, rows, shard_size)


def rows_of(store: Store, shard: int) -> list[dict]:
    return [{"key": f"k{i}", "value": i / 2} for i in store.range(shard)]


def fill(store: Store) -> Store:
    for shard in store.missing():
        store.write(shard, rows_of(store, shard))
    store.finish()
    return store


def names(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_the_folder_is_named_by_the_spec(tmp_path):
    store = fill(make(tmp_path))
    assert store.folder == tmp_path / fingerprint(SPEC)
    assert json.loads((store.folder / "spec.json").read_text()) == SPEC


def test_shards_share_out_the_rows(tmp_path):
    store = make(tmp_path)
    assert [store.range(i) for i in range(store.shards)] == [range(3), range(3, 6), range(6, 7)]


def test_rows_come_back_in_order_whatever_order_they_were_written_in(tmp_path):
    store = make(tmp_path)
    for shard in (2, 0, 1):
        store.write(shard, rows_of(store, shard))
    store.finish()
    assert store.read().to_pylist() == [{"key": f"k{i}", "value": i / 2} for i in range(7)]
    assert store.read(["value"]).column_names == ["value"]
    assert [len(rows) for rows in store.batches(["key"])] == [3, 3, 1]


def test_resume_is_the_set_difference(tmp_path):
    store = make(tmp_path)
    assert store.missing() == [0, 1, 2]
    store.write(1, rows_of(store, 1))
    assert make(tmp_path).missing() == [0, 2]
    assert not store.complete


def test_the_manifest_comes_last_and_says_what_there_is(tmp_path):
    store = make(tmp_path)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
        assert not store.complete and "manifest.json" not in names(store)
    store.finish()
    assert store.complete and store.missing() == []
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert [part["rows"] for part in manifest["parts"]] == [3, 3, 1] and manifest["rows"] == 7
    assert [part["file"] for part in manifest["parts"]] == names(store)[1:4]
    assert len({part["sha256"] for part in manifest["parts"]}) == 3


def test_no_manifest_while_a_shard_is_missing(tmp_path):
    store = make(tmp_path)
    store.write(0, rows_of(store, 0))
    with pytest.raises(AssertionError, match=r"\[1, 2\] are missing"):
        store.finish()
    assert not store.complete


def test_finishing_again_changes_nothing(tmp_path):
    store = fill(make(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    store.finish()
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == before


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_a_truncated_shard_is_made_again(tmp_path, keep):
    store = make(tmp_path)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
    whole = store.part(1).read_bytes()
    store.part(1).write_bytes(whole[: keep if keep in (0, 3) else int(len(whole) * keep)])
    assert store.missing() == [1]
    fill(store)
    assert store.read()["key"].to_pylist() == [f"k{i}" for i in range(7)]


def test_a_shard_of_other_rows_is_made_again(tmp_path):
    store = make(tmp_path)
    store.write(0, rows_of(store, 0))
    pq.write_table(pq.read_table(store.part(0)).slice(0, 2), store.part(0))
    assert store.missing() == [0, 1, 2]


def test_a_shard_needs_all_its_rows(tmp_path):
    store = make(tmp_path)
    with pytest.raises(AssertionError, match="2 rows for shard 0"):
        store.write(0, rows_of(store, 0)[:2])
    assert store.missing() == [0, 1, 2]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, step):
    store = make(tmp_path)
    store.write(0, rows_of(store, 0))

    def full_disk(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(OSError, match="no space"):
        store.write(1, rows_of(store, 1))
    monkeypatch.undo()
    assert names(store) == ["part-00000.parquet", "spec.json", "written.jsonl"]
    assert make(tmp_path).missing() == [1, 2]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    write_atomic(tmp_path / "file", b"old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as partial:
        partial.write_bytes(b"half of the n")
        raise RuntimeError
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        store = fill(make(tmp_path))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in store.folder.iterdir()} == {0o644}


def test_single_rows_are_read_from_their_shards_alone(tmp_path):
    store = fill(make(tmp_path))
    store.part(1).unlink()
    found = dict(store.rows_at([6, 0, 2]))
    assert list(found) == [0, 2, 6]
    assert found == {i: {"key": f"k{i}", "value": i / 2} for i in (0, 2, 6)}


def test_shards_that_are_noted_are_not_opened_again(tmp_path, monkeypatch):
    store = make(tmp_path)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_metadata", pytest.fail)
        assert make(tmp_path).missing() == []
        make(tmp_path).finish()
    assert "written.jsonl" not in names(store)


@pytest.mark.parametrize("notes", [None, "", '{"shard": 0', '[1]\n{"shard": 9}\n7\n'])
def test_notes_that_are_missing_or_damaged_change_nothing(tmp_path, notes):
    told, untold = (make(tmp_path / name) for name in "ab")
    for store in (told, untold):
        for shard in range(store.shards):
            store.write(shard, rows_of(store, shard))
    file = untold.folder / "written.jsonl"
    file.unlink() if notes is None else file.write_text(notes)
    assert untold.missing() == []
    for store in (told, untold):
        store.finish()
    manifests = [json.loads((s.folder / "manifest.json").read_text()) for s in (told, untold)]
    assert manifests[0] == manifests[1]


def test_the_hashes_of_the_manifest_are_those_of_the_files(tmp_path):
    store = make(tmp_path)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
    store.part(1).write_bytes(store.part(1).read_bytes())  # another file: it is hashed again
    store.finish()
    for part in json.loads((store.folder / "manifest.json").read_text())["parts"]:
        data = (store.folder / part["file"]).read_bytes()
        assert part["sha256"] == hashlib.sha256(data).hexdigest() and part["bytes"] == len(data)


def test_a_shard_that_is_whole_but_another_is_made_again(tmp_path):
    store = make(tmp_path)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
    pq.write_table(store.read().slice(3, 3).sort_by([("value", "descending")]), store.part(1))
    assert store.missing() == [1]
