"""A study in one SQLite file: images, questions, raters, and each rating as it is given.

    study      what it was made of, as JSON
    image      the images, under ids that say nothing
    question   kind, method, original, and the images to look at
    rater      a name and a secret code, which is in the rater's link
    turn       the order in which a rater meets the questions
    rating     at most one per rater and question; no value means that it was skipped

It can be copied to another machine and served there. Each call opens the file again, so that any
number of threads and processes may use it; a rating is on disk when the call returns.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final
from uuid import uuid4

from sgid.human_study.questions import SCALE, Question, order

LONGEST_NAME = 60


PATIENCE = 30
"""Seconds to wait for another writer."""


_JOINERS = "\u200c\u200d"  # not printable, but Persian and Indian names are spelt with them


def new_code() -> str:
    """A code for a rater's link that nobody can guess."""
    return secrets.token_urlsafe(12)


@final
class Study:
    """A study on disk.

    Raises:
        FileNotFoundError: if there is none in `folder`.
        ValueError: if the file is not one that this version wrote.
        OSError: if it cannot be read: another program holds it, or it may not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path}: there is no such study. This makes one: "
                f"python -m sgid.human_study build 'aug=[...]' ... --output {folder}"
            )
        try:
            with self._open() as file:
                (version,) = file.execute("PRAGMA user_version").fetchone()
        except sqlite3.OperationalError as error:
            raise OSError(
                f"{self.path} cannot be read: {error}. Close other programs that use it, "
                f"and see that you may write to it and to {folder}"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is not a study: {error}") from error
        if version != VERSION:
            raise ValueError(f"{self.path} is a study of version {version}, not of {VERSION}")
        self.questions = {one.number: one for one in self._questions()}

    def about(self) -> dict[str, Any]:
        """Dataset, methods, stores and seed of the study, as `build` wrote them."""
        with self._open() as file:
            return {what: json.loads(value) for what, value in file.execute("SELECT * FROM study")}

    def picture(self, id: str) -> Picture | None:
        """The image of an id."""
        with self._open() as file:
            found = file.execute("SELECT width, height, data FROM image WHERE id = ?", (id,))
            row = found.fetchone()
        return Picture(*row) if row else None

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Width and height of all images."""
        with self._open() as file:
            return {id: (w, h) for id, w, h in file.execute("SELECT id, width, height FROM image")}

    def add_rater(self, name: str, code: str = "") -> Rater:
        """A new rater, whose order of the questions is drawn here.

        `code`, of `new_code`, makes it safe to ask twice: the same name with the same code is the
        rater that there is. Any other text, and one that somebody else has, is not used.

        Raises:
            ValueError: if the name is empty, too long, or taken.
        """
        name = " ".join(name.split())
        seen = re.sub(f"[{_JOINERS}]", "", name)
        if not seen or len(name) > LONGEST_NAME or not seen.isprintable():
            raise ValueError(f"A name has 1 to {LONGEST_NAME} letters.")
        if not re.fullmatch(r"[A-Za-z0-9_-]{16}", code):
            code = new_code()
        seed = self.about()["seed"]
        try:
            with self._open() as file, file:
                row = file.execute(
                    "INSERT INTO rater (code, name, began) VALUES (?, ?, ?)", (code, name, _now())
                )
                number = row.lastrowid
                assert number is not None
                turns = order(list(self.questions.values()), seed, number)
                file.executemany(
                    "INSERT INTO turn VALUES (?, ?, ?)",
                    [(number, position, one.number) for position, one in enumerate(turns, 1)],
                )
        except sqlite3.IntegrityError as error:
            if known := self.rater(code):
                same = known.name.casefold() == name.casefold()
                return known if same else self.add_rater(name)
            raise ValueError(
                f"{name} has begun already: go on by the personal link, or take another name."
            ) from error
        return Rater(number, code, name, len(turns), 0, 1)

    def raters(self) -> list[Rater]:
        """All raters in the order in which they began."""
        with self._open() as file:
            codes = [code for (code,) in file.execute("SELECT code FROM rater ORDER BY number")]
        return [one for code in codes if (one := self.rater(code))]

    def rater(self, code: str) -> Rater | None:
        """The rater of a code."""
        with self._open() as file:
            row = file.execute(
                """SELECT rater.number, code, name, count(*), count(rating.at),
                       min(CASE WHEN rating.at IS NULL THEN position END)
                   FROM rater JOIN turn ON turn.rater = rater.number
                   LEFT JOIN rating USING (rater, question)
                   WHERE code = ? GROUP BY rater.number""",
                (code,),
            ).fetchone()
        return Rater(*row) if row else None

    def turn(self, rater: Rater, position: int) -> Turn | None:
        """The question to the rater at this position (1, 2, ...)."""
        if not 1 <= position <= rater.total:  # also larger than SQLite's integers
            return None
        with self._open() as file:
            row = file.execute(
                """SELECT question, rating.at IS NOT NULL, value, seconds
                   FROM turn LEFT JOIN rating USING (rater, question)
                   WHERE rater = ? AND position = ?""",
                (rater.number, position),
            ).fetchone()
        return Turn(position, self.questions[row[0]], bool(row[1]), *row[2:]) if row else None

    def rate(self, rater: Rater, turn: Turn, value: int | None, seconds: float | None) -> None:
        """Keep an answer, instead of the one that there was; `None` skips."""
        with self._open() as file, file:
            file.execute(
                """INSERT INTO rating VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                   value = excluded.value, seconds = excluded.seconds, at = excluded.at""",
                (rater.number, turn.question.number, value, seconds, _now()),
            )

    def ratings(self) -> list[Rating]:
        """All answers, rater by rater, in the order in which the questions were met."""
        with self._open() as file:
            rows = file.execute(
                """SELECT rater, kind, method, key, label, value, seconds, at
                   FROM rating JOIN turn USING (rater, question)
                   JOIN question ON question.number = question ORDER BY rater, position"""
            )
            return [Rating(*row) for row in rows]

    def _questions(self) -> list[Question]:
        with self._open() as file:
            rows = file.execute("SELECT * FROM question ORDER BY number").fetchall()
        return [
            Question(number, kind, method, key, label, tuple(json.loads(images)))
            for number, kind, method, key, label, images in rows
        ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # rw: SQLite would make a file that is not there. Writers wait for one another.
        place = f"{self.path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(place, uri=True, timeout=PATIENCE)) as file:
            file.execute("PRAGMA foreign_keys = ON")
            file.execute("PRAGMA synchronous = FULL")
            yield file


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image (WebP) and its size in pixels."""

    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Rater:
    """A rater and their progress: `waiting` is the first position without an answer."""

    number: int
    code: str
    name: str
    total: int
    answered: int
    waiting: int | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One question as a rater meets it, with the answer that it has, if any."""

    position: int
    question: Question
    answered: bool
    value: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Rating:
    """One answer: `value` is `None` where it was skipped, `seconds` where they are not known."""

    rater: int
    kind: str
    method: str
    key: str
    label: str
    value: int | None
    seconds: float | None
    at: str


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
