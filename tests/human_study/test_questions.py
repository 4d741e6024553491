"""The questionnaire is balanced, whole and cut short, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from sgid.human_study.questions import CONSISTENCY, DIVERSITY, UNCHANGED, choose, order, originals
from tests.human_study.conftest import questions


def test_a_part_of_the_questions_is_balanced_too():
    asked = questions(6)
    for rater in (1, 2, 3):
        kind = order(asked, 0, rater)[0].kind
        met = [o for o in order(asked, 0, rater) if o.kind == kind and o.method != UNCHANGED]
        for turn in range(3):  # each round: every original once, every method equally often
            part = met[6 * turn : 6 * turn + 6]
            assert len({one.key for one in part}) == 6
            assert set(Counter(one.method for one in part).values()) == {2}


def test_orders_differ_among_raters_and_seeds_and_take_turns_in_which_kind_is_first():
    def numbers(seed, rater):
        return [one.number for one in order(questions(), seed, rater)]

    assert numbers(0, 1) == numbers(0, 1)
    assert numbers(0, 1) != numbers(0, 3) and numbers(0, 1) != numbers(1, 1)
    first = [order(questions(), 0, rater)[0].kind for rater in (1, 2, 3, 4)]
    assert first == ["consistency", "diversity", "consistency", "diversity"]
    kinds = [one.kind for one in order(questions(), 0, 1)]
    assert kinds == sorted(kinds)


def test_originals_are_balanced_over_classes_and_drawn_by_seed(fashion):
    chosen = choose(fashion, 20, seed=0)
    assert len(set(chosen)) == 20
    available = Counter(fashion.labels)
    counts = Counter(fashion.labels[i] for i in chosen)
    assert all(counts[label] >= min(2, available[label]) for label in available)
    assert chosen == choose(fashion, 20, seed=0) != choose(fashion, 20, seed=1)
    few = {frozenset(fashion.labels[i] for i in choose(fashion, 3, seed=s)) for s in range(8)}
    assert len(few) > 1  # with more classes than originals the seed draws the classes too


def test_how_many_originals_that_takes():
    assert originals(60, methods=3, expansion=5, available=100) == 10
    assert originals(65, methods=3, expansion=5, available=100) == 10
    assert originals(60, methods=3, expansion=1, available=100) == 20  # no diversity to ask
    with pytest.raises(ValueError, match="--questions 5: one original takes 6"):
        originals(5, methods=3, expansion=5, available=100)
    with pytest.raises(ValueError, match="takes 10 originals.* has 8, enough for --questions 48"):
        originals(60, methods=3, expansion=5, available=8)


def test_what_passes_a_check():
    assert [CONSISTENCY.passes(value) for value in (3, 4, 5)] == [False, True, True]
    assert [DIVERSITY.passes(value) for value in (1, 2, 3)] == [True, True, False]


def test_every_question_comes_once_and_no_original_twice_in_a_row():
    asked = questions(originals=6)
    for rater in range(1, 41):
        met = order(asked, 0, rater)
        assert sorted(one.number for one in met) == [one.number for one in asked]
        for one, following in pairwise(met):
            assert (one.kind, one.key) != (following.kind, following.key)
