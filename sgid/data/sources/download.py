"""Expected places of sets, their download, and messages where they are not there."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import final

from sgid.runtime.files import file_lock
from sgid.runtime.terminal import program

PATIENCE = 60.0
"""Seconds without an answer after which a server is taken to be gone."""

_AGAIN = "Nothing that is there is overwritten: move it away before the set is fetched again."

log = logging.getLogger(__name__)


class MissingImages(FileNotFoundError):
    """A set that is not there.

    `title` and `size` are those of what `stage=fetch` fetches, or `hub` is an id and a revision;
    without them it cannot be fetched.
    """

    title = ""
    size: str | None = None
    hub: tuple[str, str | None] | None = None


@final
@dataclass(frozen=True)
class DatasetInfo:
    """Facts on a set that lies in `dataset.root`: ROOT in `layout`.

    `option` is its name in `conf/dataset`, `folder` the folder in ROOT that its archive unpacks to,
    `size` what is fetched, or `None` where nobody serves it any more, `elsewhere` where else it is,
    and `hub` a copy on the Hugging Face hub, with the options that make it the same set.
    """

    option: str
    title: str
    size: str | None
    folder: str
    layout: str
    elsewhere: str = ""
    hub: str = ""

    def top(self, root: str | None) -> Path:
        """`root` as an absolute path.

        Raises:
            FileNotFoundError: if it is not given.
        """
        if not root:
            raise self.missing("dataset.root is not given.")
        return Path(root).expanduser().absolute()

    def find(self, root: str | None, *, download: bool, fetch: Callable[[Path], object]) -> Path:
        """`root` as an absolute path, once it holds `folder`.

        With `download`, a set that is not there is fetched: `fetch(place)` makes `place/folder`.
        That happens in a folder of its own, and the set appears in `root` once it is whole, so
        that a fetch may be killed at any time. What is there is never touched. Where another
        process fetches it already, this one waits for that.

        Raises:
            FileNotFoundError: if it is not there, or cannot be fetched.
        """
        top = self.top(root)
        if not (top / self.folder).is_dir():
            if not download:
                what = f"has no folder {self.folder}" if top.is_dir() else "is not there"
                raise self.missing(f"{self.title}: dataset.root={root} {what}.", root)
            self._fetch(top, fetch)
        return top

    def _fetch(self, top: Path, fetch: Callable[[Path], object]) -> None:
        place = top / f".fetching-{self.option}"
        lock = place.with_suffix(".lock")
        waits = socket.getdefaulttimeout()
        try:
            with file_lock(lock, on_wait=lambda: log.info("%s is being fetched", self.title)):
                try:
                    if not (top / self.folder).is_dir():  # else another process was quicker
                        log.info("fetching %s (%s) into %s", self.title, self.size, top)
                        socket.setdefaulttimeout(PATIENCE)
                        self._fetch_alone(top, place, fetch)
                finally:
                    lock.unlink(missing_ok=True)
        except Exception as error:  # the network's, the archive's or the disk's, of any kind
            cause = " ".join(str(error).split()) or type(error).__name__
            raise FileNotFoundError(
                f"{self.title} could not be fetched into {top}: {cause}\n"
                f"The same command tries again. By hand, it is\n{self._by_hand}"
            ) from error
        finally:
            socket.setdefaulttimeout(waits)

    def _fetch_alone(self, top: Path, place: Path, fetch: Callable[[Path], object]) -> None:
        try:
            shutil.rmtree(place, ignore_errors=True)  # of a fetch that was killed
            place.mkdir(parents=True)
            with _within_the_folder():
                fetch(place)
            for archive in (place / self.folder).glob("*.t*gz"):  # some keep a gigabyte of them
                archive.unlink()
            os.replace(place / self.folder, top / self.folder)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def missing(self, what: str, root: str | Path | None = None) -> MissingImages:
        """The error to raise: `what` is missing, and how to get the set into `root`."""
        if self.size is None:
            text = f"{what}\n{self.title} is expected as\n{self._by_hand}"
        else:
            place = shlex.quote(f"dataset.root={root}") if root else ""
            command = f"{program()} stage=fetch dataset={self.option} aug=none {place}".rstrip()
            text = f"{what}\nFetch it ({self.size}): {command}\nBy hand, it is\n{self._by_hand}"
        error = MissingImages(text)
        error.title, error.size = self.title, root and self.size
        return error

    def incomplete(self, top: Path, what: str) -> FileNotFoundError:
        """The error to raise: the set in `top` is not whole, since `what`."""
        error = self.missing(f"{top} holds {self.title} incompletely: {what}.\n{_AGAIN}", top)
        error.size = None  # before it is moved away
        return error

    @contextmanager
    def reading(self, top: Path) -> Iterator[None]:
        """Tell whatever goes wrong inside, while the set's own lists are read, as theirs.

        Raises:
            FileNotFoundError: if a file is missing or is not the original's.
            ValueError: if a file cannot be read.
        """
        try:
            yield
        except FileNotFoundError as error:
            if error.filename is None:  # reported already
                raise
            raise self.incomplete(top, f"{error.filename} is not there") from error
        except RuntimeError as error:  # how torchvision says so, whatever is wrong
            raise self.incomplete(
                top, f"files are missing or are not the original's ({error})"
            ) from error
        except Exception as error:  # damaged lists make their readers raise nearly anything
            what = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(
                f"{top / self.folder} cannot be read as {self.title}: {what}\n"
                f"By hand, it is\n{self._by_hand}"
            ) from error

    @property
    def _by_hand(self) -> str:
        where = "Say where with dataset.root=ROOT."
        copy = (
            self.hub
            and f"""\
Others keep copies on the Hugging Face hub; compare what stage=data shows. The same options run it:
  {program()} stage=fetch aug=none dataset=hub dataset.name={self.option} \\
    dataset.source.id={self.hub}"""
        )
        return "\n".join(filter(None, (indent(self.layout, "  "), where, self.elsewhere, copy)))


@contextmanager
def _within_the_folder() -> Iterator[None]:
    """Unpack no tar beyond its folder (PEP 706), which not every torchvision asks for by itself."""
    before = tarfile.TarFile.extraction_filter
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before
