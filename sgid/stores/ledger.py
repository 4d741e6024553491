"""What each shard of an unfinished store was when it was written: a line of JSON for each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sgid.stores.parts import Stamp


class Note(NamedTuple):
    """The file of a shard: how large and when, and its SHA-256."""

    stamp: Stamp
    sha256: str


def note(ledger: Path, notes: Mapping[int, Note]) -> None:
    """Add lines, in one write, so that those of other processes stay whole.

    Raises:
        OSError: if they could not be written whole, as on a full disk.
    """
    lines = [
        json.dumps({"shard": shard, "stamp": list(one.stamp), "sha256": one.sha256}) + "\n"
        for shard, one in notes.items()
    ]
    # A line that was cut off before these ends here.
    data = ("\n" + "".join(lines)).encode()
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ledger))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_notes(ledger: Path) -> dict[int, Note]:
    """The last note of each shard; lines that were cut off or damaged are passed over."""
    found: dict[int, Note] = {}
    try:
        text = ledger.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return found
    for line in text.splitlines():
        try:
            told = json.loads(line)
            size, written = map(int, told["stamp"])
            found[int(told["shard"])] = Note(Stamp(size, written), str(told["sha256"]))
        except (ValueError, TypeError, KeyError):
            continue
    return found
