"""Captions that people wrote, beside their images: `NAME.txt`, and `metadata.csv` or
`metadata.jsonl` as Hugging Face's imagefolder has them.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sgid.data.listing import printable, read

OPTION = "dataset.captions"

HOW = {
    "own": "they stand in for the captioner's, and every training image needs one",
    "join": "they are candidates beside the captioner's",
}
"""Uses of captions that people wrote, and what they mean."""

TABLES = ("metadata.csv", "metadata.jsonl")

COLUMNS = ("text", "caption")
"""Columns of a table that hold captions."""


def read_captions(images: Mapping[str, Path], top: Path) -> dict[str, tuple[str, ...]]:
    """The captions of each image that has any, by key; `images` are paths by key, below `top`.

    Of `NAME.txt` beside `NAME.jpg` every line is a caption. A table's column `file_name` has paths
    from its own folder, and `text` or `caption` the caption; a table may lie in any folder from
    that of an image up to `top`.

    Raises:
        ValueError: if a file is not UTF-8, or a table lacks a column or names an image twice.
    """
    tables = {
        folder: dict(_tables(folder))
        for folder in {parent for path in images.values() for parent in _folders(path, top)}
    }
    captions = {}
    for key, path in images.items():
        given = list(_lines(path.with_suffix(".txt")))
        for folder in _folders(path, top):
            name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
            given += tables[folder].get(name, [])
        if distinct := tuple(dict.fromkeys(text for one in given if (text := _plain(one)))):
            captions[printable(key)] = distinct
    return captions


def _folders(path: Path, top: Path) -> Iterator[Path]:
    """The folders from that of an image up to `top`."""
    for folder in path.parents:
        yield folder
        if folder == top:
            return


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines() if path.is_file() else []


def _text(path: Path) -> str:
    try:
        return read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{OPTION}: {path} is not UTF-8 ({error}); save it so") from error


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))


def _tables(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The captions in the tables of a folder, by the path of their image from there."""
    seen: set[str] = set()
    for path in (folder / name for name in TABLES):
        if not path.is_file():
            continue
        for place, row in _rows(path):
            name = row.get("file_name")
            if not isinstance(name, str) or not name:
                raise ValueError(f"{OPTION}: {place} has no file_name")
            columns = [column for column in COLUMNS if column in row]
            if not columns:
                raise ValueError(
                    f"{OPTION}: {place} has no column {' or '.join(COLUMNS)}; it has "
                    f"{', '.join(map(printable, row))}"
                )
            name = unicodedata.normalize("NFC", Path(name).as_posix())
            if name in seen:
                raise ValueError(f"{OPTION}: {place} names {printable(name)} a second time")
            seen.add(name)
            given = [row[column] for column in columns if row[column]]
            yield name, [text for one in given for text in _texts(one, place)]


def _texts(value: Any, place: str) -> list[str]:
    """A caption, or a list of such."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{OPTION}: {place}: a caption is a text, or a list of texts")
    return texts


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a table, each with its place for messages."""
    text = _text(path)
    if path.suffix == ".csv":
        try:
            table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            for number, row in enumerate(table, 2):
                yield f"{path}, row {number}", {k: v for k, v in row.items() if k is not None}
        except csv.Error as error:
            raise ValueError(f"{OPTION}: {path} is no table: {error}") from error
        return
    # Not `splitlines`: JSON may hold separators of lines that are not line feeds.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{OPTION}: {path}, line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{OPTION}: {path}, line {number} is no object")
        yield f"{path}, line {number}", row
