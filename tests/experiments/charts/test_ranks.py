"""Ranks and their tests against scipy and scikit-posthocs."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.charts.ranks import cliques, critical_difference, friedman, rank


def test_ranks_are_averaged_over_complete_blocks_best_first():
    ranking = rank(
        {
            "cars": {"none": 60.0, "sgid": 70.0, "mixup": 65.0},
            "pets": {"none": 80.0, "sgid": 90.0, "mixup": 90.0},  # a tie: 1.5 each
            "dtd": {"none": 50.0, "sgid": 40.0},
        }
    )
    assert ranking is not None
    assert ranking.methods == ("sgid", "mixup", "none")
    assert ranking.means == [1.25, 1.75, 3]
    assert (ranking.blocks, ranking.incomplete) == (("cars", "pets"), ("dtd",))
    for bare in ({"cars": {"none": 1.0}, "pets": {"sgid": 1.0}}, {"cars": {"sgid": 1.0}}, {}):
        assert rank(bare) is None, "no complete block, or no second method"


@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_friedman_by_permutation_is_near_the_chi_square_of_many_blocks(effect: float):
    scores = np.random.default_rng(3).normal(size=(40, 7)) + effect * np.arange(7) / 3
    scores[:, 1] = scores[:, 2]  # ties
    reference = stats.friedmanchisquare(*scores.T).pvalue
    assert friedman(stats.rankdata(scores, axis=1)) == pytest.approx(reference, abs=0.015)


def test_friedman_is_exact_for_few_blocks():
    # Two blocks that agree on three methods: 1 in 3! orders of the second is as extreme.
    assert friedman(np.array([[1.0, 2, 3], [1, 2, 3]])) == pytest.approx(1 / 6, abs=0.01)
    assert friedman(np.array([[1.0, 2, 3]])) == 1


def test_differences_are_those_of_nemenyis_test_in_scikit_posthocs():
    posthocs = pytest.importorskip("scikit_posthocs")
    scores = np.random.default_rng(0).normal(size=(6, 5)) + np.arange(5)
    reference = posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    means = stats.rankdata(scores, axis=1).mean(axis=0)
    difference = critical_difference(5, 6)
    apart = np.abs(means[:, None] - means) > difference
    assert np.array_equal(apart, reference < 0.05) and apart.any() and not apart.all()
    order = np.argsort(means)
    together = np.zeros((5, 5), dtype=bool)
    for first, last in cliques(means[order].tolist(), difference):
        members = order[first : last + 1]
        together[np.ix_(members, members)] = True
    others = ~np.eye(5, dtype=bool)
    assert np.array_equal(together[others], (reference >= 0.05)[others])


def test_cliques_and_the_critical_difference_of_demsars_table():
    # Table 5 (a) there: q.05 = 2.569 for four methods, 3.164 for ten.
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(20 / 84), abs=2e-3)
    assert critical_difference(10, 5) == pytest.approx(3.164 * math.sqrt(110 / 30), abs=2e-3)
    # the longest runs within the difference
    assert cliques([1.0, 1.5, 2.0, 4.0, 4.5], 1.0) == [(0, 2), (3, 4)]
    assert cliques([1.0, 2.0, 3.0], 1.0) == [(0, 1), (1, 2)]
    assert cliques([1.0, 3.0], 1.0) == []
