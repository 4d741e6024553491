"""The file of a study that nobody has answered yet: what `build` writes, once and whole."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from sgid.evaluation.human.questions import SCALE, Question
from sgid.evaluation.human.records import Picture

FILE = "study.sqlite"
VERSION = 1
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA user_version = {VERSION};
CREATE TABLE study (what TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE image (
    id TEXT PRIMARY KEY, width INTEGER NOT NULL, height INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE question (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, method TEXT NOT NULL, key TEXT NOT NULL,
    label TEXT NOT NULL, images TEXT NOT NULL, UNIQUE (kind, method, key));
CREATE TABLE rater (
    number INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE, began TEXT NOT NULL);
CREATE TABLE turn (
    rater INTEGER NOT NULL REFERENCES rater, position INTEGER NOT NULL,
    question INTEGER NOT NULL REFERENCES question,
    PRIMARY KEY (rater, position), UNIQUE (rater, question));
CREATE TABLE rating (
    rater INTEGER NOT NULL, question INTEGER NOT NULL,
    value INTEGER CHECK (value BETWEEN {SCALE[0]} AND {SCALE[-1]}), seconds REAL, at TEXT NOT NULL,
    PRIMARY KEY (rater, question), FOREIGN KEY (rater, question) REFERENCES turn (rater, question));
"""


def write_study(
    path: Path,
    about: Mapping[str, Any],
    pictures: Mapping[str, Picture],
    questions: Sequence[Question],
) -> None:
    """Write a study that nobody has answered yet.

    Raises:
        FileExistsError: if there is one: it may hold ratings.
    """
    must_be_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        _write(partial, about, pictures, questions)
        try:
            os.link(partial, path)  # fails where there is one by now, as a rename does not
        except FileExistsError:
            must_be_new(path)
            raise
        except OSError:  # a file system without hard links
            must_be_new(path)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def must_be_new(path: Path) -> None:
    """Raise FileExistsError if there is a study."""
    if path.exists():
        raise FileExistsError(
            f"{path} is a study already, and may hold ratings: --output another folder"
        )


def _write(
    path: Path,
    about: Mapping[str, Any],
    pictures: Mapping[str, Picture],
    questions: Sequence[Question],
) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(_SCHEMA)
        with file:
            file.executemany(
                "INSERT INTO study VALUES (?, ?)",
                [(what, json.dumps(value)) for what, value in about.items()],
            )
            file.executemany(
                "INSERT INTO image VALUES (?, ?, ?, ?)",
                [(id, one.width, one.height, one.data) for id, one in pictures.items()],
            )
            file.executemany(
                "INSERT INTO question VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (one.number, one.kind, one.method, one.key, one.label, json.dumps(one.images))
                    for one in questions
                ],
            )
