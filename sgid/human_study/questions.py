"""Questions of a study: their kinds, their choice, and the order in which a rater meets them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from sgid.reproducibility import derive_seed

if TYPE_CHECKING:
    from sgid.data.image_set import ImageSet


SCALE = (1, 2, 3, 4, 5)


UNCHANGED = "unchanged"
"""The method of a check: the original itself, shown as if it had been made of it."""


CHECKS = 5
"""One check of each kind for so many originals, and at least one."""


SHOWN = 6
"""Repeats of an original that are looked at together, at most."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that is rated from 1 to 5, and the words for it."""

    name: str
    title: str
    ask: str
    hint: str
    low: str
    high: str

    def passes(self, value: int) -> bool:
        """Whether a rating of a check is one that somebody who looks can give."""
        return value >= 4 if self is CONSISTENCY else value <= 2


CONSISTENCY = Kind(
    name="consistency",
    title="semantic consistency",
    ask="Does the second image still show the same thing?",
    hint="Judge what is shown. Colours, pose and background may differ.",
    low="no, something else",
    high="yes, clearly",
)


DIVERSITY = Kind(
    name="diversity",
    title="image diversity",
    ask="How different are these images from one another?",
    hint="Compare them with one another only.",
    low="all nearly the same",
    high="all very different",
)


KINDS = {kind.name: kind for kind in (CONSISTENCY, DIVERSITY)}


@dataclass(frozen=True, slots=True)
class Question:
    """One original and what one method made of it.

    `number` is that of the question in its study; `images` are the ids of those to look at, the
    original first. `label` is the class in words.
    """

    number: int
    kind: str
    method: str
    key: str
    label: str
    images: tuple[str, ...]


def kinds(expansion: int) -> list[Kind]:
    """Kinds of questions: diversity only where an original has several images."""
    return [CONSISTENCY, DIVERSITY] if expansion > 1 else [CONSISTENCY]


def originals(questions: int, methods: int, expansion: int, available: int) -> int:
    """Number of originals for at most `questions` questions, each with all methods and kinds.

    Raises:
        ValueError: if that is none, or more than are `available`.
    """
    each = methods * len(kinds(expansion))
    count = questions // each
    if count < 1:
        raise ValueError(
            f"--questions {questions}: one original takes {each}, "
            f"{len(kinds(expansion))} for each of the {methods} methods"
        )
    if count > available:
        raise ValueError(
            f"--questions {questions} takes {count:,} originals; the training set has "
            f"{available:,}, enough for --questions {available * each}"
        )
    return count


def choose(images: ImageSet, count: int, seed: int) -> list[int]:
    """Indices of `count` images, drawn class after class in turn, so that classes are balanced."""

    def drawn(what: object) -> int:
        return derive_seed(seed, "human", what)

    by_class: dict[int, list[int]] = {}
    for i in sorted(range(len(images)), key=lambda i: drawn(images.keys[i])):
        by_class.setdefault(images.labels[i], []).append(i)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class, key=drawn)))
    return [i for turn in turns for i in turn if i is not None][:count]


def order(questions: Sequence[Question], seed: int, rater: int) -> list[Question]:
    """All questions as the rater of this number (1, 2, ...) meets them.

    One kind after the other; every second rater begins with the second. A kind comes in rounds:
    each round has every original once, its method a step further than in the round before. So
    whoever stops early has still seen all methods about equally often, and an original comes back
    only when all others have been there. Checks come anywhere.
    """
    names = [name for name in KINDS if any(one.kind == name for one in questions)]
    parts = names if rater % 2 else names[::-1]
    return [
        one
        for name in parts
        for one in _rounds(
            [one for one in questions if one.kind == name],
            random.Random(derive_seed(seed, "order", rater, name)),
        )
    ]


def _rounds(questions: Sequence[Question], rng: random.Random) -> list[Question]:
    asked = {(one.key, one.method): one for one in questions if one.method != UNCHANGED}
    keys, methods = (list(dict.fromkeys(names)) for names in zip(*asked, strict=True))
    rng.shuffle(keys)
    rng.shuffle(methods)
    ordered = []
    for step in range(len(methods)):
        turn = [asked[key, methods[(i + step) % len(methods)]] for i, key in enumerate(keys)]
        rng.shuffle(turn)
        if ordered and ordered[-1].key == turn[0].key:  # not the same original twice in a row
            turn.reverse()
        ordered += turn
    for check in (one for one in questions if one.method == UNCHANGED):
        places = range(len(ordered) + 1)
        apart = [
            i for i in places if all(o.key != check.key for o in ordered[max(i - 1, 0) : i + 1])
        ]
        ordered.insert(rng.choice(apart or places), check)
    return ordered
