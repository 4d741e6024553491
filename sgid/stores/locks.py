"""File locks between processes: the system lets go of those of a process that dies.

`flock` itself, since libraries go over to files that outlive their process where a file system has
no locks, or wait for ever.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds to wait before asking again for what another process holds."""


def UNLOCKED() -> None:
    """Lets go of nothing: the file system has no locks."""


_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_told: set[Path] = set()


def take(path: Path) -> Callable[[], None] | None:
    """What lets go of the lock `path` again, if no other process has it; else `None`.

    Where the file system has no locks that is told once for each folder, and all are taken.

    Raises:
        OSError: if the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return lambda: os.close(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                return None
            if error.errno not in _NO_LOCKS:
                raise
            if path.parent not in _told:
                _told.add(path.parent)
                why = error.strerror
                log.warning("%s: %s. Let one process at a time work on it", path.parent, why)
            return UNLOCKED
        except BaseException:  # a stop
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a file that its holder has removed: it locks nobody out


@contextmanager
def alone(path: Path, *, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
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


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
