"""Content-addressed stores of Parquet shards that survive being killed.

A store is a folder named by the fingerprint of its spec:

    spec.json         what determines the content, for people
    part-00000.parquet ...   a fixed number of rows each
    written.jsonl     a line for each shard, written before it: its hash; until there is a manifest
    manifest.json     written last: the shards with their rows, sizes and hashes

A shard is written under a temporary name, flushed, and renamed, so that a shard that exists is
whole; resuming is the set difference. A shard that was changed since is hashed, and missing again
if it is not what was written (`integrity`). Several processes may work on one store (`claims`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, final

from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path, write_atomic

if TYPE_CHECKING:
    import pyarrow as pa


@final
@dataclass(frozen=True)
class Store:
    """`rows` rows in shards of `shard_size`, below `parent`/<fingerprint of spec>."""

    parent: Path
    spec: Mapping[str, Any]
    schema: pa.Schema
    rows: int
    shard_size: int

    @cached_property
    def folder(self) -> Path:
        return self.parent / fingerprint(self.spec)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_size)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def ledger(self) -> Path:
        return self.folder / "written.jsonl"

    @property
    def complete(self) -> bool:
        return self.manifest.is_file()

    @property
    def content(self) -> str:
        """16 hex digits over the hashes of all shards: the same for the same bytes.

        Raises:
            FileNotFoundError: if the store is not complete.
        """
        parts = json.loads(self.manifest.read_text(encoding="utf-8"))["parts"]
        hashes = "".join(part["sha256"] for part in parts)
        return hashlib.sha256(hashes.encode()).hexdigest()[:16]

    def range(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.rows))

    @property
    def columns(self) -> list[str]:
        """The names of the columns of a store that is complete."""
        import pyarrow.parquet as pq

        return pq.read_schema(self.part(0)).names

    def part(self, shard: int) -> Path:
        return self.folder / f"part-{shard:05d}.parquet"

    def missing(self, among: Sequence[int] | None = None) -> list[int]:
        """Shards still to be written, in order; only those `among` some, if given."""
        if self.complete:
            return []
        records = read_records(self.ledger)
        asked = range(self.shards) if among is None else among
        return [shard for shard in asked if self._hash(shard, records) is None]

    def write(self, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one shard. `rows` are all of its rows, in order."""
        if len(rows) != len(self.range(shard)):
            raise AssertionError(f"{len(rows)} rows for shard {shard}, {self.range(shard)}")
        with self._placing(shard) as partial:
            hash = write_shard(partial, rows, self.schema)
            # First, so that every shard that is there has its record.
            record_shard(self.ledger, {shard: ShardRecord(Stamp.of(partial), hash)})

    def place(self, shard: int, file: Path, hash: str) -> None:
        """Move the file of a shard here that was written elsewhere and has this SHA-256."""
        with self._placing(shard) as partial:
            shutil.move(file, partial)
            record_shard(self.ledger, {shard: ShardRecord(Stamp.of(partial), hash)})

    def finish(self) -> None:
        """Write the manifest: from here on the store is complete.

        Raises:
            AssertionError: if shards are missing.
        """
        if not self.complete:
            records = read_records(self.ledger)
            hashes = [self._hash(shard, records) for shard in range(self.shards)]
            if missing := [shard for shard, hash in enumerate(hashes) if hash is None]:
                raise AssertionError(f"shards {missing} are missing in {self.folder}")
            parts = [
                {
                    "file": self.part(shard).name,
                    "rows": len(self.range(shard)),
                    "bytes": self.part(shard).stat().st_size,
                    "sha256": hash,
                }
                for shard, hash in enumerate(hashes)
            ]
            manifest = {"rows": self.rows, "shard_size": self.shard_size, "parts": parts}
            write_atomic(self.manifest, _json(manifest))
        for left in (self.ledger, *self.folder.glob(".*.lock")):
            left.unlink(missing_ok=True)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows in order; name `columns` to leave the images on disk."""
        import pyarrow as pa

        return pa.concat_tables(self.tables(columns))

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the shards as tables; no more than one is in memory."""
        return (read_shard(self.part(shard), columns) for shard in range(self.shards))

    def batches(self, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of one shard after the other."""
        return (table.to_pylist() for table in self.tables(columns))

    def rows_at(
        self, numbers: Sequence[int], columns: list[str] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of these numbers, in order, with their numbers; other shards are not read."""
        for shard, wanted in groupby(sorted(numbers), key=lambda number: number // self.shard_size):
            inside = list(wanted)
            start = shard * self.shard_size
            table = read_shard(self.part(shard), columns).take(
                [number - start for number in inside]
            )
            yield from zip(inside, table.to_pylist(), strict=True)

    @contextmanager
    def _placing(self, shard: int) -> Iterator[Path]:
        spec = self.folder / "spec.json"
        if not spec.is_file():
            write_atomic(spec, _json(dict(self.spec)))
        with atomic_path(self.part(shard)) as partial:
            yield partial

    def _hash(self, shard: int, records: Mapping[int, ShardRecord]) -> str | None:
        """SHA-256 of an intact shard, else `None`."""
        path, noted = self.part(shard), records.get(shard)
        if (now := stamp(path)) is None:
            return None
        if noted is None:  # as where the records were lost with the machine's power
            return sha256(path) if rows_in(path) == len(self.range(shard)) else None
        if now != noted.stamp and sha256(path) != noted.sha256:
            return None
        return noted.sha256


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


class ShardRecord(NamedTuple):
    """Line of the ledger: size, time and SHA-256 of a shard's file."""

    stamp: Stamp
    sha256: str


def record_shard(ledger: Path, records: Mapping[int, ShardRecord]) -> None:
    """Append records in one write, so that lines of other processes stay intact.

    Raises:
        OSError: if they could not be written whole, as on a full disk.
    """
    lines = [
        json.dumps({"shard": shard, "stamp": list(one.stamp), "sha256": one.sha256}) + "\n"
        for shard, one in records.items()
    ]
    # Ends a line that was cut off.
    data = ("\n" + "".join(lines)).encode()
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ledger))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_records(ledger: Path) -> dict[int, ShardRecord]:
    """The last record of each shard; damaged lines are skipped."""
    records: dict[int, ShardRecord] = {}
    try:
        text = ledger.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return records
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            size, written = map(int, entry["stamp"])
            records[int(entry["shard"])] = ShardRecord(Stamp(size, written), str(entry["sha256"]))
        except (ValueError, TypeError, KeyError):
            continue
    return records


ROW_GROUP = 64
"""Rows that are compressed together: few, so that single rows can be read cheaply."""


DOUBTFUL = 0
"""The date, in ns, of a file that was found damaged: no other file has it."""


class Stamp(NamedTuple):
    """Size of a file in bytes, and its time of modification in ns."""

    size: int
    written: int

    @staticmethod
    def of(path: Path) -> Stamp:
        status = path.stat()
        return Stamp(status.st_size, status.st_mtime_ns)


class CorruptStore(ValueError):
    """Raised when a file of a store is not what was written."""


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Write `rows` and flush them to the disk; returns the SHA-256 of the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Images are large and all different: no dictionary of them, no smallest and largest.
    plain = [field.name for field in schema if not pa.types.is_nested(field.type)]
    options: dict[str, Any] = {"use_dictionary": plain, "write_statistics": plain}
    options |= {"compression": "zstd", "write_page_checksum": True}
    with path.open("wb") as stream:
        hashed = _Hashed(stream)
        with pq.ParquetWriter(hashed, schema, **options) as writer:
            for start in range(0, len(rows), ROW_GROUP):
                group = rows[start : start + ROW_GROUP]
                writer.write_table(pa.Table.from_pylist(group, schema))
        stream.flush()
        os.fsync(stream.fileno())
    return hashed.sha256.hexdigest()


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a shard, verifying the checksum of every page.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if the system refuses to read it.
        CorruptStore: if a page is not what was written. The file is dated `DOUBTFUL`, so that the
            next run hashes it, and makes the shard again.
    """
    try:
        return _read(path, columns)
    except CorruptStore:
        with suppress(OSError):
            os.utime(path, ns=(DOUBTFUL, DOUBTFUL))
        raise


def rows_in(path: Path) -> int | None:
    """Number of rows of a shard, after reading them; `None` if it is damaged or not there."""
    try:
        return len(_read(path, None))
    except (FileNotFoundError, CorruptStore):
        return None


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not `read_table`, which looks for a partitioned data set first, at twice the time.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        # What Parquet finds wrong has no number; too many open files, or no permission, has.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorruptStore(
            f"{path} is damaged ({error}). The same command, or stage=augment, makes it again"
        ) from error


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp(path: Path) -> Stamp | None:
    """Stamp of the file, or `None`."""
    try:
        return Stamp.of(path)
    except FileNotFoundError:
        return None


@final
class _Hashed:
    """File that computes the SHA-256 of what is written to it."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.stream.write(data)

    def tell(self) -> int:
        return self.stream.tell()

    def flush(self) -> None:
        self.stream.flush()
