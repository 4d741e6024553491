"""Tables that survive being killed: Parquet shards, content-addressed, written once.

A store is a folder named by the fingerprint of its spec:

    spec.json         what determines the content, for people
    part-00000.parquet ...   a fixed number of rows each
    manifest.json     written last: the shards with their row counts and hashes

A shard is written under a temporary name, flushed, and renamed, so that a shard that exists is
whole. What is done is what is there; resuming is the set difference.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from uuid import uuid4

from sgid.fingerprint import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it either is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` if all goes well, else it is removed."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
        if self.complete:
            return []
        return [shard for shard in range(self.shards) if not self._whole(shard)]

    def write(self, shard: int, rows: list[dict[str, Any]]) -> None:
        """Write one shard. `rows` are all of its rows, in order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if len(rows) != len(self.range(shard)):
            raise AssertionError(f"{len(rows)} rows for shard {shard}, {self.range(shard)}")
        spec = self.folder / "spec.json"
        if not spec.is_file():
            write_atomic(spec, _json(dict(self.spec)))
        sink = pa.BufferOutputStream()
        # Images are compressed already; small row groups let single rows be read cheaply.
        pq.write_table(
            pa.Table.from_pylist(rows, self.schema), sink, compression="zstd", row_group_size=64
        )
        write_atomic(self.part(shard), sink.getvalue().to_pybytes())

    def finish(self) -> None:
        """Write the manifest: from here on the store is complete and never written again.

        Raises:
            AssertionError: if shards are missing.
        """
        if missing := self.missing():
            raise AssertionError(f"shards {missing} are missing in {self.folder}")
        if self.complete:
            return
        parts = [
            {
                "file": self.part(shard).name,
                "rows": len(self.range(shard)),
                "sha256": hashlib.sha256(self.part(shard).read_bytes()).hexdigest(),
            }
            for shard in range(self.shards)
        ]
        manifest = {"rows": self.rows, "shard_size": self.shard_size, "parts": parts}
        write_atomic(self.folder / "manifest.json", _json(manifest))

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows in order; name `columns` to leave the images on disk."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        parts = [pq.read_table(self.part(s), columns=columns) for s in range(self.shards)]
        return pa.concat_tables(parts)

    def batches(self, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
        """The rows of one shard after the other."""
        import pyarrow.parquet as pq

        for shard in range(self.shards):
            yield pq.read_table(self.part(shard), columns=columns).to_pylist()

    def rows_at(self, numbers: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of these numbers, in order, with their numbers; other shards are not read."""
        import pyarrow.parquet as pq

        for shard, wanted in groupby(sorted(numbers), key=lambda number: number // self.shard_size):
            inside = list(wanted)
            start = shard * self.shard_size
            table = pq.read_table(self.part(shard)).take([number - start for number in inside])
            yield from zip(inside, table.to_pylist(), strict=True)

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


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
