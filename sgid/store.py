"""Tables that survive being killed: Parquet shards, content-addressed, written once.

A store is a folder named by the fingerprint of its spec:

    spec.json         what determines the content, for people
    part-00000.parquet ...   a fixed number of rows each
    written.jsonl     a line for each shard as it was written, until there is a manifest
    manifest.json     written last: the shards with their row counts and hashes

A shard is written under a temporary name, flushed, and renamed, so that a shard that exists is
whole. What is done is what is there; resuming is the set difference. The lines only spare opening
and hashing a shard again: one that is missing, or is of another file, costs that time and no more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

from sgid.files import replacing, write_atomic
from sgid.fingerprint import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 64
"""Rows that are compressed together: few, so that single rows can be read cheaply."""


@final
@dataclass(frozen=True)
class Store:
    """`rows` rows in shards of `shard_size`, below `parent`/<fingerprint of spec>."""

    parent: Path
    spec: Mapping[str, Any]
    schema: pa.Schema
    rows: int
    shard_size: int

    @property
    def folder(self) -> Path:
        return self.parent / fingerprint(self.spec)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_size)

    @property
    def complete(self) -> bool:
        return (self.folder / "manifest.json").is_file()

    def range(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.rows))

    def part(self, shard: int) -> Path:
        return self.folder / f"part-{shard:05d}.parquet"

    def missing(self) -> list[int]:
        """The shards still to be written, in order."""
        return [] if self.complete else self._missing(self._noted())

    def write(self, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one shard. `rows` are all of its rows, in order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if len(rows) != len(self.range(shard)):
            raise AssertionError(f"{len(rows)} rows for shard {shard}, {self.range(shard)}")
        spec = self.folder / "spec.json"
        if not spec.is_file():
            write_atomic(spec, _json(dict(self.spec)))
        # Images are large and all different: no dictionary of them, no smallest and largest.
        plain = [field.name for field in self.schema if not pa.types.is_nested(field.type)]
        options: dict[str, Any] = {"use_dictionary": plain, "write_statistics": plain}
        with replacing(self.part(shard)) as partial, partial.open("wb") as stream:
            hashed = _Hashed(stream)
            with pq.ParquetWriter(hashed, self.schema, compression="zstd", **options) as writer:
                for start in range(0, len(rows), ROW_GROUP):
                    group = rows[start : start + ROW_GROUP]
                    writer.write_table(pa.Table.from_pylist(group, self.schema))
            stream.flush()
            os.fsync(stream.fileno())
            stamp = _stamp(partial)
        note = {"shard": shard, "stamp": stamp, "sha256": hashed.sha256.hexdigest()}
        with self._notes.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps(note) + "\n")

    def finish(self) -> None:
        """Write the manifest: from here on the store is complete and never written again.

        Raises:
            AssertionError: if shards are missing.
        """
        if self.complete:
            return
        noted = self._noted()
        if missing := self._missing(noted):
            raise AssertionError(f"shards {missing} are missing in {self.folder}")
        parts = [
            {
                "file": self.part(shard).name,
                "rows": len(self.range(shard)),
                "sha256": noted.get(shard) or _sha256(self.part(shard)),
            }
            for shard in range(self.shards)
        ]
        manifest = {"rows": self.rows, "shard_size": self.shard_size, "parts": parts}
        write_atomic(self.folder / "manifest.json", _json(manifest))
        self._notes.unlink(missing_ok=True)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows in order; name `columns` to leave the images on disk."""
        import pyarrow as pa

        return pa.concat_tables(self.tables(columns))

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """One shard after the other; no more than one is in memory."""
        return (self._table(shard, columns) for shard in range(self.shards))

    def batches(self, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
        """The rows of one shard after the other."""
        return (table.to_pylist() for table in self.tables(columns))

    def rows_at(
        self, numbers: Sequence[int], columns: list[str] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of these numbers, in order, with their numbers; other shards are not read."""
        for shard, wanted in groupby(sorted(numbers), key=lambda number: number // self.shard_size):
            inside = list(wanted)
            start = shard * self.shard_size
            table = self._table(shard, columns).take([number - start for number in inside])
            yield from zip(inside, table.to_pylist(), strict=True)

    def _table(self, shard: int, columns: list[str] | None) -> pa.Table:
        import pyarrow.parquet as pq

        # Not `read_table`, which looks for a partitioned data set first, at twice the time.
        with pq.ParquetFile(self.part(shard)) as file:
            return file.read(columns)

    def _missing(self, noted: Mapping[int, str]) -> list[int]:
        return [s for s in range(self.shards) if s not in noted and not self._whole(s)]

    def _whole(self, shard: int) -> bool:
        """Whether a shard is there with the rows that it should have."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.part(shard).is_file():
            return False
        try:
            return pq.read_metadata(self.part(shard)).num_rows == len(self.range(shard))
        except (pa.ArrowInvalid, OSError):
            return False

    @property
    def _notes(self) -> Path:
        return self.folder / "written.jsonl"

    def _noted(self) -> dict[int, str]:
        """The SHA-256 of each shard whose file is the one that was noted when it was written."""
        found: dict[int, str] = {}
        if not self._notes.is_file():
            return found
        for line in self._notes.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                note = json.loads(line)
                shard, stamp, sha256 = note["shard"], note["stamp"], note["sha256"]
            except (ValueError, TypeError, KeyError):  # cut off, or damaged
                continue
            if shard in range(self.shards) and _stamp(self.part(shard)) == stamp:
                found[shard] = sha256
        return found


@final
class _Hashed:
    """A file to write to, which keeps the SHA-256 of what went through it."""

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


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stamp(path: Path) -> list[int] | None:
    """Size in bytes and time of change in ns, if there is such a file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
