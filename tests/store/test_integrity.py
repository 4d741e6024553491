"""A store whose files were changed after they were written: found, and made again."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from sgid.store.claims import Claims
from sgid.store.integrity import invalidate_corrupt_shards
from sgid.store.reviews import REVIEWS
from sgid.store.store import CorruptStore, Store, read_records, stamp
from tests.store.test_store import fill, make, rows_of


@pytest.fixture
def store(tmp_path) -> Store:
    store = fill(make(tmp_path, rows=300, shard_size=100))
    (store.folder / "rows.arrow").write_bytes(b"made of the shards")
    return store


def flip(path: Path, at: float, *, quietly: bool = False) -> None:
    """Turn one bit, `at` that share of the file; `quietly` without a trace in its time."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 4
    path.write_bytes(data)
    if quietly:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def bytes_of(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.iterdir()}


@pytest.mark.parametrize("at", [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1])
def test_a_flipped_bit_is_found_and_its_shard_alone_made_again(store, at):
    before = bytes_of(store)
    flip(store.part(1), at)
    assert invalidate_corrupt_shards(store) == ["part-00001.parquet"]
    assert not store.complete and store.missing() == [1]
    untouched = {shard: stamp(store.part(shard)) for shard in (0, 2)}
    fill(store)
    assert {shard: stamp(store.part(shard)) for shard in (0, 2)} == untouched
    assert before.pop("rows.arrow") and bytes_of(store) == before  # what was made of it is gone


@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_a_truncated_shard_is_found_even_with_an_old_date(store, keep):
    before = stamp(store.part(2))
    data = store.part(2).read_bytes()
    store.part(2).write_bytes(data[: int(keep * len(data))])
    os.utime(store.part(2), ns=(before.written, before.written))
    assert invalidate_corrupt_shards(store) == ["part-00002.parquet"]
    assert store.missing() == [2]


def test_a_lost_shard_is_made_again(store):
    store.part(0).unlink()
    assert invalidate_corrupt_shards(store) == ["part-00000.parquet"]
    assert store.missing() == [0]


def test_what_is_whole_stays_and_is_hashed_but_once(store, tmp_path, monkeypatch):
    assert invalidate_corrupt_shards(store) == []
    copied = Store(tmp_path / "copy", store.spec, store.schema, store.rows, store.shard_size)
    shutil.copytree(store.folder, copied.folder, copy_function=shutil.copyfile)
    assert invalidate_corrupt_shards(copied) == []  # younger than its manifest, and the same
    assert copied.complete and copied.content == store.content
    monkeypatch.setattr("sgid.store.integrity.sha256", pytest.fail)
    assert invalidate_corrupt_shards(copied) == []


def test_damage_without_a_trace_is_found_by_reading_and_by_hashing_everything(store):
    flip(store.part(1), 0.4, quietly=True)
    assert invalidate_corrupt_shards(store) == []
    with pytest.raises(CorruptStore, match=r"part-00001\.parquet is damaged .* makes it again"):
        store.read()
    assert invalidate_corrupt_shards(store) == [
        "part-00001.parquet"
    ]  # reading left it looking changed
    fill(store)
    flip(store.part(2), 0.4, quietly=True)
    assert invalidate_corrupt_shards(store, everything=True) == ["part-00002.parquet"]


@pytest.mark.parametrize("at", [0.05, 0.2, 0.35, 0.5])
def test_no_flipped_bit_in_the_pages_is_read_as_if_it_were_right(store, at):
    """Also columns that are read alone; the end of the file is its directory, without checksum."""
    whole = store.read()
    flip(store.part(0), at, quietly=True)
    try:
        assert store.read().equals(whole)
    except CorruptStore:
        return


def test_killed_while_it_is_taken_back_nothing_damaged_is_trusted(store, monkeypatch):
    flip(store.part(1), 0.5)
    real = Path.unlink

    def killed(path: Path, *args, **kwargs):
        real(path, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)  # after the first file is gone
        invalidate_corrupt_shards(store)
    assert store.complete and invalidate_corrupt_shards(store) == ["part-00001.parquet"]
    assert store.missing() == [1] and not (store.folder / "rows.arrow").exists()


@pytest.mark.parametrize("damage", ["", "{", '{"parts": [{}]}', "[]"])
def test_a_damaged_manifest_is_written_again(store, damage):
    before = bytes_of(store)
    (store.folder / "manifest.json").write_text(damage)
    invalidate_corrupt_shards(store)
    assert not store.complete
    fill(store)
    assert store.complete and bytes_of(store)["manifest.json"] == before["manifest.json"]


def test_the_content_is_that_of_the_bytes(store, tmp_path):
    same = fill(make(tmp_path / "same", rows=300, shard_size=100))
    assert same.content == store.content and len(store.content) == 16
    other = make(tmp_path / "other", rows=300, shard_size=100)
    for shard in other.missing():
        rows = rows_of(other, shard)
        rows[-1]["value"] += shard == 2
        other.write(shard, rows)
    other.finish()
    assert other.content != store.content


def test_older_manifests_without_sizes_are_read(store):
    path = store.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for part in manifest["parts"]:
        del part["bytes"]
    path.write_text(json.dumps(manifest))
    assert invalidate_corrupt_shards(store) == [] and store.complete


def test_other_processes_locks_and_unfinished_files_stay_and_what_people_said(store):
    names = (".part-00001.lock", ".part-00002.parquet.ab12.tmp", REVIEWS)
    others = [store.folder / name for name in names]
    for path in others:
        path.write_bytes(b"")
    flip(store.part(1), 0.5)
    assert invalidate_corrupt_shards(store) == ["part-00001.parquet"]
    assert all(path.is_file() for path in others)


def test_damage_is_found_by_a_manifest_of_another_clock(store):
    ahead = store.manifest.stat().st_mtime_ns + 10**15
    os.utime(store.manifest, ns=(ahead, ahead))
    flip(store.part(1), 0.4)
    with pytest.raises(CorruptStore):
        store.read()
    assert invalidate_corrupt_shards(store) == ["part-00001.parquet"]


def test_shards_of_the_future_are_hashed_but_once(store, monkeypatch):
    ahead = store.manifest.stat().st_mtime_ns + 10**15
    os.utime(store.part(2), ns=(ahead, ahead))
    assert invalidate_corrupt_shards(store) == []
    monkeypatch.setattr("sgid.store.integrity.sha256", pytest.fail)
    assert invalidate_corrupt_shards(store) == []


def test_a_damaged_shard_without_a_note_is_made_again(tmp_path):
    store = make(tmp_path, rows=300, shard_size=100)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
    store.ledger.unlink()
    flip(store.part(1), 0.4)
    with Claims(store) as claims:
        for claim in claims:
            assert claim is not None and claim.shard == 1
            claim.write(rows_of(store, 1))
    store.finish()
    assert store.complete


def test_what_the_system_refuses_is_not_damage(store, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        store.read()
    monkeypatch.undo()
    assert invalidate_corrupt_shards(store) == []


def test_a_note_that_is_cut_off_does_not_spoil_the_next(tmp_path, monkeypatch):
    store = make(tmp_path)
    store.write(0, rows_of(store, 0))
    whole = os.write
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "write", lambda file, data: whole(file, data[:9]))
        store.write(1, rows_of(store, 1))
    assert not store.part(1).exists()
    store.write(2, rows_of(store, 2))
    assert set(read_records(store.ledger)) == {0, 2}


def test_a_store_that_may_not_be_mended_is_not_used(store, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    os.utime(store.part(0))
    assert invalidate_corrupt_shards(store) == []
    flip(store.part(1), 0.5)
    with pytest.raises(CorruptStore, match=r"cannot be written to, and is damaged: part-00001"):
        invalidate_corrupt_shards(store)
