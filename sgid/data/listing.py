"""Listings: the images that a source offers, before any of them is opened, and class names as
words.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import final

from sgid.data.image_set import ImageSet, Texts

MAX_BYTES = 2**30
"""More than any image that `sgid.data.decode` takes has, however it is encoded."""


@final
@dataclass(frozen=True)
class Listing:
    """The images of one split, unread.

    `read(i)` gives the encoded bytes of image `i`. `stamps[i]` changes when those bytes may have
    changed (a file's size and time). `origin` is where they lie, for messages and for the cache.
    `checked` images are known to be whole. In keys and class names, which are shown to people and
    written to tables, what would command a terminal is escaped: see `printable`.

    Raises:
        ValueError: if two images have the same key.
    """

    origin: str
    keys: Sequence[str]
    labels: Sequence[int]
    stamps: Sequence[str]
    class_names: tuple[str, ...]
    read: Callable[[int], bytes]
    checked: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(map(printable, self.class_names)))
        if any(map(commands, self.keys)):
            object.__setattr__(self, "keys", Texts(map(printable, self.keys)))
        if len(set(self.keys)) < len(self.keys):
            key, times = Counter(self.keys).most_common(1)[0]
            raise ValueError(f"{self.origin}: {times} images have the key {key!r}")

    def images(self, checksums: Sequence[str]) -> ImageSet:
        """All of them as a set, once their checksums are known."""
        rows = range(len(self.keys))
        return ImageSet(self.keys, self.labels, checksums, self.class_names, rows, self.read)


@final
@dataclass(frozen=True)
class ClassText:
    """Words of a class for prompts, the kind of thing it is (`dog`), and a sentence on it."""

    words: str
    superclass: str | None = None
    description: str | None = None


@final
@dataclass(frozen=True)
class Splits:
    """The splits of a source. One that it does not have is `None`.

    `ignored` counts the files that were passed over: hidden ones and those that are no images.
    `note` is what else a reader of the result should know: `fold 1 of 10`. `remarks` are what may
    not be as it was meant, `texts` the words of each class, in the order of the listings' names,
    `captions` those that people wrote, by an image's key, where they are asked for, and `places`
    where a split was found, by its name, where it has another one than the split.
    """

    train: Listing
    validation: Listing | None
    test: Listing | None
    ignored: int = 0
    note: str = ""
    remarks: tuple[str, ...] = ()
    texts: tuple[ClassText, ...] = ()
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def each(self, change: Callable[[Listing], Listing]) -> Splits:
        """The same with every listing changed."""
        return replace(self, **{split: change(one) for split, one in self.present().items()})

    def present(self) -> dict[str, Listing]:
        """The splits that it has, by name."""
        listings = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: listing for split, listing in listings.items() if listing is not None}


@final
@dataclass(frozen=True)
class FileReader:
    """Reads the bytes of file `i` of `paths`."""

    paths: Sequence[str]

    def __call__(self, index: int) -> bytes:
        return read(Path(self.paths[index]))


def read(path: Path) -> bytes:
    """The bytes of a file that may be anything: a pipe would never end, nor a device.

    Raises:
        OSError: if it is not there.
        ValueError: if it is no ordinary file, or has more than `MAX_BYTES`.
    """
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise ValueError("not an ordinary file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"{status.st_size:,} bytes, more than the {MAX_BYTES:,} that are allowed")
    return path.read_bytes()


def stamp(path: str | Path) -> str:
    """The size in bytes and the times of change in ns of the file at `path`.

    The second of them cannot be set: it changes where a file is replaced by one of equal size that
    was given the time of the first.
    """
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing: the error comes, with its name, when it is read
        return "unreadable"
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


# What moves the cursor, colours, or turns the text around (C0, C1, Unicode's bidirectional marks).
_COMMAND = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def from_file(name: str) -> str:
    """A file's name as text that can be stored: NFC, bytes that are not UTF-8 escaped."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def words(code: str) -> str:
    """`aquarium_fish` -> `aquarium fish`; a number in front (`001.Laysan_Albatross`) is dropped."""
    bare = re.sub(r"^\d+\.(?=\D)", "", code)
    return " ".join(bare.replace("_", " ").split()) or code


def phrase(class_name: str, noun: str | None) -> str:
    """`pink primrose`, `flower` -> `pink primrose flower`; a name that ends so stays."""
    if not noun or class_name.lower().endswith(noun.lower()):
        return class_name
    return f"{class_name} {noun}"


def commands(text: str) -> bool:
    """Whether `text` holds characters that a terminal would obey rather than show."""
    return _COMMAND.search(text) is not None


def printable(text: str) -> str:
    r"""`text` with those characters as escapes, such as `\n` and `\x1b`."""
    return _COMMAND.sub(lambda one: one[0].encode("unicode_escape").decode(), text)
