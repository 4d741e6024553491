"""One shard's file: Parquet with a checksum in every page, and a hash of the whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, final

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 64
"""Rows that are compressed together: few, so that single rows can be read cheaply."""


DOUBTFUL = 0
"""The date, in ns, of a file that was found damaged: no other file has it."""


class Stamp(NamedTuple):
    """A file's size in bytes, and when it was last written, in ns."""

    size: int
    written: int

    @staticmethod
    def of(path: Path) -> Stamp:
        status = path.stat()
        return Stamp(status.st_size, status.st_mtime_ns)


class Damaged(ValueError):
    """A file is not what was written."""


def write_part(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Write `rows` and flush them to the disk; the SHA-256 of the file."""
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


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a shard, checked page by page.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if the system refuses to read it.
        Damaged: if a page is not what was written. The file is dated `DOUBTFUL`, so that the next
            run hashes it, and makes the shard again.
    """
    try:
        return _read(path, columns)
    except Damaged:
        with suppress(OSError):
            os.utime(path, ns=(DOUBTFUL, DOUBTFUL))
        raise


def rows_in(path: Path) -> int | None:
    """How many rows a shard has, all of them read; `None` if it is damaged or not there."""
    try:
        return len(_read(path, None))
    except (FileNotFoundError, Damaged):
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
        raise Damaged(
            f"{path} is damaged ({error}). The same command, or stage=augment, makes it again"
        ) from error


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp(path: Path) -> Stamp | None:
    """That of the file, if there is one."""
    try:
        return Stamp.of(path)
    except FileNotFoundError:
        return None


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
