"""Files that are there whole, or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

ABANDONED = 24 * 60 * 60
"""Seconds after which no process is still writing to an unfinished file."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it either is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def require_writable(folder: Path, option: str) -> None:
    """Make the folder and try to write there, before hours of work.

    Raises:
        OSError: naming the folder, what is wrong, and the option to change.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(4096))  # a full disk takes an empty file
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        taken = isinstance(error, FileExistsError)  # `mkdir` minds all but folders
        why = os.strerror(errno.ENOTDIR) if taken else error.strerror or error
        raise OSError(
            f"{option}={folder} cannot be written to: {why}. Give another folder with {option}=DIR"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` if all goes well, else it is removed."""
    for old in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        with suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > ABANDONED:
                old.unlink()
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a write does not say of which file it was
        raise
