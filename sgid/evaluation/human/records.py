"""What a study holds, as the other files pass it on."""

from __future__ import annotations

from dataclasses import dataclass

from sgid.evaluation.human.questions import Question


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image (WebP) and its size in pixels."""

    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Rater:
    """Who rates, and how far they are: `waiting` is the first position without an answer."""

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
