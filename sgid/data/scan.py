"""Reading every image once: is it whole, and what is its checksum?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import PIL

from sgid.data.decode import Scale, heif_is_read, read_raw, scale_of
from sgid.data.image_set import ImageSet
from sgid.data.listing import Listing
from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path
from sgid.runtime.terminal import progress
from sgid.runtime.threads import parallel_map

SAVED_EVERY = 60.0
"""Seconds after which what was found is written, for a process that may be killed."""


class Finding(NamedTuple):
    """Record of one image. `problem` is why it cannot be used, or empty; `notes` are keys of
    `sgid.data.decode.NOTES`, one after the other; `low` and `high` are the values of an image of
    more than 8 bits, whose `kind` is `i` (integers) or `f` (floats).
    """

    stamp: str
    checksum: str
    problem: str
    notes: str = ""
    kind: str = ""
    low: float = 0.0
    high: float = 0.0


def scan(listing: Listing, *, max_bad: float, cache: Path) -> tuple[ImageSet, dict[str, Finding]]:
    """The images of `listing` that can be decoded; and, by key, the findings of those that cannot
    and of those with notes or more than 8 bits.

    Every image is read, and decoded in full unless that was checked before, once: what was found is
    kept in a file under `cache` and holds until an image's stamp changes. A scan that is broken off
    goes on where it was, and one that is killed where it was a minute before at most.

    Raises:
        ValueError: if more than the share `max_bad` of the images cannot be decoded.
    """
    if not 0 <= max_bad < 1:
        raise ValueError(f"dataset.max_bad={max_bad} must be a share of the images, from 0 to 1")

    # Other libraries may read what these cannot, so they are part of the name.
    readers = [listing.origin, PIL.__version__, heif_is_read(), Finding._fields]
    file = cache / f"{fingerprint(readers)}.parquet"
    known = _load(file)
    todo = [
        row
        for row, (key, stamp) in enumerate(zip(listing.keys, listing.stamps, strict=True))
        if key not in known or known[key].stamp != stamp
    ]
    if todo:
        saved = time.monotonic()
        try:
            for row, finding in _read_all(listing, todo):
                known[listing.keys[row]] = finding
                if time.monotonic() - saved > SAVED_EVERY:
                    _save(file, listing, known)
                    saved = time.monotonic()
        finally:
            _save(file, listing, known)

    bad = {key: known[key].problem for key in listing.keys if known[key].problem}
    if len(bad) > max_bad * len(listing.keys):
        few = "\n".join(f"  {key}: {problem}" for key, problem in islice(bad.items(), 5))
        raise ValueError(
            f"{len(bad):,} of {len(listing.keys):,} images in {listing.origin} cannot be used, "
            f"more than the share dataset.max_bad={max_bad} allows; the first are\n{few}\n"
            "Repair or remove them, or raise dataset.max_bad to leave more of them out."
        )
    rows = [row for row, key in enumerate(listing.keys) if key not in bad]
    images = listing.images(tuple(known[key].checksum for key in listing.keys))
    special = {
        key: known[key]
        for key in listing.keys
        if known[key].problem or known[key].notes or known[key].kind
    }
    return images.select(rows), special


def common_scale(findings: Iterable[Finding], full_scale: float | None = None) -> Scale:
    """Black and white for all images of more than 8 bits of a set, from the values they hold.

    `full_scale` is the value that is white, where it is known.
    """
    spans: dict[str, tuple[float, float]] = {}
    for one in findings:
        if one.kind and not one.problem:
            low, high = spans.get(one.kind, (one.low, one.high))
            spans[one.kind] = min(low, one.low), max(high, one.high)
    scales = {
        kind: (0.0, full_scale) if full_scale else scale_of(*span) for kind, span in spans.items()
    }
    return Scale(scales.get("i"), scales.get("f"))


def _read_all(listing: Listing, rows: list[int]) -> Iterator[tuple[int, Finding]]:
    def find(row: int) -> Finding:
        checksum = problem = notes = kind = ""
        low = high = 0.0
        try:
            data = listing.read(row)
            checksum = hashlib.sha256(data).hexdigest()[:32]
            if not listing.checked:
                raw = read_raw(data)
                notes = " ".join(raw.notes)
                if raw.values is not None and raw.span is not None:
                    kind = "f" if raw.values.dtype.kind == "f" else "i"
                    low, high = raw.span
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        except ValueError as error:
            problem = str(error)
        return Finding(listing.stamps[row], checksum, problem, notes, kind, low, high)

    # Threads, since reading waits and decoding releases the interpreter's lock.
    with progress(f"check {Path(listing.origin).name}", len(rows), "images") as bar:
        for row, finding in zip(rows, parallel_map(find, rows), strict=True):
            yield row, finding
            bar.update()


def _load(file: Path) -> dict[str, Finding]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not `read_table`, which imports pandas.
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        columns = [table.column(name).to_pylist() for name in ("key", *Finding._fields)]
    except (OSError, KeyError, pa.ArrowInvalid):  # absent or damaged: it is only a cache
        return {}
    return {key: Finding(*values) for key, *values in zip(*columns, strict=True)}


def _save(file: Path, listing: Listing, known: Mapping[str, Finding]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # An image that could not even be read may be there next time: it is not remembered.
    found = ((key, known[key]) for key in listing.keys if key in known)
    rows = [{"key": key, **finding._asdict()} for key, finding in found if finding.checksum]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as unfinished:
        pq.write_table(pa.Table.from_pylist(rows), unfinished)
