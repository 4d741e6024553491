"""File locks between processes: the system lets go of those of a process that dies."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds to wait before asking again for what another process holds."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_told: set[Path] = set()


def take(path: Path) -> Callable[[], None] | None:
    """What lets go of the lock `path` again, if no other process has it; else `None`.

    Where the file system has no locks that is told once for each folder, and all are taken.

    Raises:
        OSError: if the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path.parent not in _told:
            _told.add(path.parent)
            why = error.strerror
            log.warning("%s: %s. Let one process at a time work on it", path.parent, why)
        return lambda: None
    return lock.release


@contextmanager
def alone(path: Path, *, on_wait: Callable[[], object]) -> Iterator[None]:
    """Within the block no other process has the lock `path`; `on_wait` is called if one has."""
    release = take(path)
    if release is None:
        on_wait()
    while release is None:
        time.sleep(PATIENCE)
        release = take(path)
    try:
        yield
    finally:
        release()
