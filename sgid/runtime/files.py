"""Atomic writes, and file locks that the system releases when their process dies.

The locks are `flock` itself: libraries fall back to files that outlive their process where a file
system has no locks, or wait for ever.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

ABANDONED = 24 * 60 * 60
"""Seconds after which no process of another machine is still writing to an unfinished file."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def require_writable(folder: Path, option: str) -> None:
    """Create the folder and write a test file there, before hours of work.

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
def atomic_path(path: Path) -> Iterator[Path]:
    """Temporary name next to `path`; renamed to `path` at the end, or removed after an error."""
    for old in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(FileNotFoundError):
            if _abandoned(old):
                old.unlink()
    partial = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{uuid4().hex}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # the error of a write names no file
        raise


def _abandoned(unfinished: Path) -> bool:
    """Whether the process that wrote a temporary file is gone, as far as this machine can know."""
    machine, _, rest = unfinished.suffixes[-2].removeprefix(".").partition("-")
    process = rest.partition("-")[0]
    if machine == _machine() and process.isdecimal():
        return not _runs(int(process))
    return time.time() - unfinished.stat().st_mtime > ABANDONED


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@cache
def _machine() -> str:
    """Name of this boot of this machine or container: process numbers are unique within it."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        known.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("".join(known).encode()).hexdigest()[:8]


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds to wait before asking again for what another process holds."""


def UNLOCKED() -> None:
    """Release nothing: the file system has no locks."""


_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}


_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


_warned: set[Path] = set()


_checked: set[Path] = set()


def try_lock(path: Path) -> Callable[[], None] | None:
    """Take the lock `path`; the function that releases it, or `None` if another process has it.

    Where the file system has no locks, each call succeeds, after one warning for each folder.

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
                _warn_if_local(path.parent)
                return lambda: os.close(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                return None
            if error.errno not in _NO_LOCKS:
                raise
            if path.parent not in _warned:
                _warned.add(path.parent)
                why = error.strerror
                log.warning("%s: %s. Let one process at a time work on it", path.parent, why)
            return UNLOCKED
        except BaseException:  # a stop
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was removed by its holder: this lock excludes nobody


def _warn_if_local(folder: Path) -> None:
    """Warn once where locks are those of this machine alone, as they are on some network mounts."""
    if folder in _checked:
        return
    _checked.add(folder)
    with suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        if kind := local_locks(mounts, folder.resolve()):
            text = (
                "%s: locks on %s hold on this machine alone. Let one machine at a time work on it"
            )
            log.warning(text, folder, kind)


def local_locks(mounts: str, folder: Path) -> str | None:
    """File system of `folder`, if other machines do not see its locks; else `None`.

    Args:
        mounts: text of /proc/self/mountinfo.
    """
    best, kind, options = -1, "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, system = before.split(), after.split()
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if folder.is_relative_to(point) and len(point) >= best:
            best, kind, options = len(point), system[0], f"{fields[5]},{system[-1]}"
    local = {"nolock", "localflock", "local_lock=all", "local_lock=flock"} & {*options.split(",")}
    return kind if kind in ("fuse.sshfs", "sshfs") or local else None


@contextmanager
def file_lock(path: Path, *, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock `path` within the block; `on_wait` is called if another process has it."""
    release = try_lock(path)
    if release is None:
        on_wait()
    while release is None:
        time.sleep(PATIENCE)
        release = try_lock(path)
    try:
        yield
    finally:
        release()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def absolute(url: str) -> str:
    """A path as the other machines know it; a URL as it is."""
    return url if "://" in url else str(Path(url).expanduser().absolute())
