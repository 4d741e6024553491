"""Shards arrive whole or not at all, by a path and by URLs of two protocols."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sgid.cluster.storage import Storage
from sgid.store.store import Store

ROWS = [{"key": f"{number}", "image": bytes([number]) * 1000} for number in range(6)]


@pytest.fixture
def ftp(tmp_path) -> Iterator[str]:
    """The URL of a server of another protocol; it keeps its files in tmp_path/"bucket"."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    users = DummyAuthorizer()
    users.add_user("me", "secret", str(tmp_path / "bucket"), perm="elradfmwMT")

    class Handler(FTPHandler):
        authorizer = users

    server = FTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.05}, daemon=True)
    thread.start()
    host, port = server.address[:2]
    yield f"ftp://me:secret@{host}:{port}/"
    server.close_all()


@pytest.fixture(params=["path", "file", "ftp"])
def url(request, tmp_path) -> str:
    """A storage that keeps its files in tmp_path/"bucket"."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    return {
        "path": lambda: str(folder),
        "file": lambda: f"file://{folder}",
        "ftp": lambda: request.getfixturevalue("ftp"),
    }[request.param]()


@pytest.fixture
def store(tmp_path) -> Callable[[str], Store]:
    """`store("a")`: a store of three shards, the same in each such folder."""
    schema = pa.schema({"key": pa.string(), "image": pa.binary()})
    return lambda name: Store(tmp_path / name / "generated", {"of": "test"}, schema, len(ROWS), 2)


@pytest.fixture
def bucket(tmp_path, store) -> Path:
    """Where a storage keeps the files of `store`."""
    return tmp_path / "bucket" / "generated" / store("a").folder.name


def filled(store: Store) -> Store:
    for shard in range(store.shards):
        rows = store.range(shard)
        store.write(shard, ROWS[rows.start : rows.stop])
    store.finish()
    return store


def test_what_is_left_there_arrives_byte_for_byte(url, store, bucket):
    one, other = filled(store("a")), store("b")
    Storage(url, one).fill()
    there = Storage(url, other)
    assert [there.get(shard) for shard in range(3)] == [True, True, True]
    other.finish()
    assert other.content == one.content
    assert other.read().equals(one.read())
    names = {f"part-0000{shard}.parquet{end}" for shard in range(3) for end in ("", ".sha256")}
    assert {path.name for path in bucket.iterdir()} == names, "nothing unfinished is left"


def test_what_is_not_there_or_not_whole_is_not_there(url, store, bucket):
    one, there = filled(store("a")), Storage(url, store("b"))
    assert not there.get(0) and there.damaged == []
    Storage(url, one).put(0)
    (bucket / "part-00000.parquet.sha256").unlink()  # who wrote it was killed before
    assert not there.has(0) and not there.get(0) and there.damaged == []


def test_a_damaged_shard_is_refused_and_removed(url, store, bucket):
    one, there = filled(store("a")), Storage(url, store("b"))
    Storage(url, one).fill()
    part = bucket / "part-00001.parquet"
    part.write_bytes(part.read_bytes().replace(b"PAR1", b"PAR2", 1))
    (bucket / "part-00002.parquet").write_bytes(b"")
    assert [there.get(shard) for shard in range(3)] == [True, False, False]
    assert there.damaged == [1, 2] and there.store.missing() == [1, 2]
    assert not there.has(1) and not part.exists()
    Storage(url, one).put(1)
    assert there.get(1)
    assert not list(there.store.folder.glob(".part*")), "nothing unfinished is left"


def test_the_hashes_are_those_that_people_can_check(store, bucket):
    Storage(str(bucket.parent.parent), filled(store("a"))).fill()
    command = ["sha256sum", "--check", *sorted(path.name for path in bucket.glob("*.sha256"))]
    said = subprocess.run(command, cwd=bucket, capture_output=True, text=True, check=True).stdout
    assert said.count(": OK") == 3


@pytest.mark.parametrize("url", ["memory://shards", "nothing://shards"])
def test_a_storage_that_cannot_be_is_refused(url, store):
    with pytest.raises(ValueError, match=f"cluster.storage={url}"):
        Storage(url, store("a"))


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """An S3 on this machine, with the bucket `images`."""
    moto = pytest.importorskip("moto.server", reason="no S3 here: pip install 'moto[server]' s3fs")
    s3fs = pytest.importorskip("s3fs", reason="no S3 here: pip install 'moto[server]' s3fs")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("images", exist_ok=True)
    yield address
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_shards_travel_by_s3_into_buckets_that_are_there(s3, store):
    from s3fs import S3FileSystem

    source, target = filled(store("a")), store("b")
    Storage("s3://images/x", source).fill()
    assert all(Storage("s3://images/x", target).get(shard) for shard in range(3))
    assert target.part(1).read_bytes() == source.part(1).read_bytes()
    with pytest.raises(ValueError, match="s3://imgaes/x: there is no bucket imgaes"):
        Storage("s3://imgaes/x", source)
    assert not S3FileSystem().exists("imgaes")


def test_an_s3_that_is_away_is_waited_for_and_then_named(s3, store, monkeypatch, caplog):
    from s3fs import S3FileSystem

    monkeypatch.setattr("sgid.cluster.storage.PAUSE", 0.1)
    monkeypatch.setattr("sgid.cluster.storage.PATIENCE", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ValueError, match="s3://images/x cannot be reached: .* the same command"):
        Storage("s3://images/x", store("a"))
    assert "cannot be reached" in caplog.text
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ValueError, match="cluster.storage=s3://images/x: .*credentials"):
        Storage("s3://images/x", store("a"))
