"""Reviews of a store's images by people: `reviews.jsonl` beside its shards.

A line is one verdict, appended and flushed to the disk as it is given:

    {"key": "cat/7.jpg", "repeat": 0, "verdict": "reject", "who": "ada", "when": "2026-11-30T16:00"}

The last line of an image counts; a verdict of `null` takes back the one before.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from sgid.store.store import Store

log = logging.getLogger(__name__)

REVIEWS = "reviews.jsonl"

VERDICTS = ("accept", "reject")


@dataclass(frozen=True, slots=True)
class Review:
    """One verdict on the image `repeat` of the original `key`; `None` takes back an earlier one.

    `when` is in ISO 8601.
    """

    key: str
    repeat: int
    verdict: str | None
    who: str
    when: str


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def append_reviews(folder: Path, reviews: Sequence[Review]) -> None:
    """Append reviews to those of the store in `folder`; they are on the disk when this returns.

    They are written at once, so that lines of several processes stay whole. A line that was cut
    off, as where a process was killed, is ended first.

    Raises:
        OSError: if they could not be written whole, as on a full disk.
    """
    path = folder / REVIEWS
    data = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in reviews).encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_reviews(folder: Path) -> dict[tuple[str, int], str]:
    """The verdict on each reviewed image of the store in `folder`, by key and repeat: one of
    `VERDICTS`. Lines that are damaged are passed over, with a warning that counts them.
    """
    verdicts: dict[tuple[str, int], str] = {}
    _fold(verdicts, read_all(folder))
    return verdicts


def read_all(folder: Path) -> list[Review]:
    """Every review of the store in `folder`, in the order in which they were given.

    Lines that are damaged are passed over, with a warning that counts them.
    """
    path = folder / REVIEWS
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return _reviews(path, lines)


@final
class Verdicts:
    """The verdicts on a store's images, read on as its reviews grow, by whichever process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / REVIEWS
        self.last: dict[tuple[str, int], str] = {}
        self._read = 0  # bytes

    def refresh(self) -> dict[tuple[str, int], str]:
        """The verdict on each reviewed image, by key and repeat, as of now.

        A last line without an end, which may be half written, is left for the next time.
        """
        try:
            with self.path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._read:  # another file
                    self.last, self._read = {}, 0
                stream.seek(self._read)
                data = stream.read()
        except FileNotFoundError:
            return self.last
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        _fold(self.last, _reviews(self.path, whole.split(b"\n")))
        return self.last


def _fold(verdicts: dict[tuple[str, int], str], reviews: Sequence[Review]) -> None:
    for review in reviews:
        if review.verdict is None:
            verdicts.pop((review.key, review.repeat), None)
        else:
            verdicts[review.key, review.repeat] = review.verdict


def _reviews(path: Path, lines: Sequence[bytes]) -> list[Review]:
    reviews = [_review(line) for line in lines if line.strip()]
    whole = [one for one in reviews if one is not None]
    if damaged := len(reviews) - len(whole):
        what = "1 line is" if damaged == 1 else f"{damaged:,} lines are"
        log.warning("%s: %s damaged and passed over; the others count", path, what)
    return whole


def _review(line: bytes) -> Review | None:
    """The review of a line; `None` for one that was cut off, or was written by something else."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    match entry:
        case {"key": str(key), "repeat": int(repeat), "verdict": "accept" | "reject" | None}:
            who, when = str(entry.get("who", "")), str(entry.get("when", ""))
            return Review(key, repeat, entry["verdict"], who, when)
    return None


def rejected(verdicts: Mapping[tuple[str, int], str]) -> list[tuple[str, int]]:
    """The rejected images, sorted: a run that drops them is known by these."""
    return sorted(image for image, verdict in verdicts.items() if verdict == "reject")


def rejected_rows(store: Store, images: Collection[tuple[str, int]]) -> NDArray[np.bool_]:
    """(rows,): whether each row of a complete store is of one of these images."""
    table, wanted = store.read(["key", "repeat"]), set(images)
    pairs = zip(*(table[name].to_pylist() for name in ("key", "repeat")), strict=True)
    return np.fromiter((pair in wanted for pair in pairs), np.bool_, store.rows)
