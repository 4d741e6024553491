"""Strengths and budgets: rules by shots, by score and by class, against hand-computed cases."""

from functools import partial

import numpy as np
import pytest

from sgid.methods import budget
from sgid.methods.strength import by_shots, by_similarity, extremes
from tests.methods.test_requests import describe, make_plan

PAPER = {"1": 0.5, "2": 0.4, "4": 0.35, "8": 0.2, "16": 0.15}


def test_real_guidances_strengths_by_shots():
    shots = [1, 2, 4, 8, 16, 500]
    found = by_shots(np.zeros(6), shots, strengths=PAPER)
    np.testing.assert_allclose(found, [0.5, 0.4, 0.35, 0.2, 0.15, 0.15])
    between = by_shots([0.0], [2**2.5], strengths=PAPER)
    np.testing.assert_allclose(between, [0.275])  # halfway from 4 to 8 in the logarithm


def test_shots_are_counted_by_class(fashion):
    few = fashion.select([0, 1, 2, 3, *(i for i in range(24) if fashion.labels[i] == 0)])
    plan = make_plan(few, strength=partial(by_shots, strengths={"1": 0.9, "4": 0.1}))
    counts = np.bincount(few.labels, minlength=10)
    for request in plan.requests(range(len(plan))):
        count = min(4, counts[request.label])
        assert request.strength == pytest.approx(np.interp(np.log2(count), [0, 2], [0.9, 0.1]))


def test_ranges_and_rules_by_similarity(fashion):
    plan = make_plan(fashion, strength={"min": 0.3, "max": 0.7}, expansion=20)
    drawn = np.array([one.strength for one in plan.requests(range(len(plan)))])
    assert drawn.min() >= 0.3 and drawn.max() < 0.7 and abs(drawn.mean() - 0.5) < 0.03
    rule = partial(by_similarity, min=0.2, max=0.8, quantiles=[0, 1])
    plan = make_plan(fashion, strength=rule)
    assert make_plan(fashion, strength=rule, prompt="").method.needs_captions
    own = [one.similarity for one in describe(fashion)]
    assert plan.requests([0])[0].strength == pytest.approx(0.2)
    assert plan.requests([3 * int(np.argmax(own))])[0].strength == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (0.5, [0.5]),
        ([0.1, 1], [0.1, 1.0]),
        ({"min": 0.2, "max": 0.4}, [0.2, 0.4]),
        ({"_target_": "by_shots", "_partial_": True, "strengths": PAPER}, list(PAPER.values())),
        ("much", []),
    ],
)
def test_strengths_that_an_entry_names(given, found):
    assert extremes(given) == found


def test_budgets():
    counts = np.array([2, 10, 0, 5])
    assert budget.fill_to(counts, 3, total=8).tolist() == [6, 0, 0, 3]
    assert budget.fill_to(counts, 3).tolist() == [38, 30, 0, 35]
    # 17 x 2 images in proportion to 1/2, 1/10 and 1/5
    assert budget.inverse_frequency(counts, 2).tolist() == [21, 4, 0, 8]
    assert budget.repeats([5, 2], [0, 1, 0, 1, 1]).tolist() == [3, 1, 2, 1, 0]


def test_a_plan_of_a_budget_has_the_rows_of_each_original(fashion):
    budgeted = make_plan(fashion, budget=partial(budget.fill_to, total=7), expansion=9)
    plain = make_plan(fashion, expansion=9)
    requests = budgeted.requests(range(len(budgeted)))
    counts = np.bincount(fashion.labels, minlength=10)
    drawn = np.bincount([one.label for one in requests], minlength=10)
    assert (drawn + counts)[counts > 0].tolist() == [7] * int((counts > 0).sum())
    for row, request in enumerate(requests):
        sample, repeat = budgeted.place(row)
        assert row in budgeted.rows(sample) and request.repeat == repeat
        (same,) = plain.requests([9 * sample + repeat])
        assert same == request  # an image of the same seed as without a budget
