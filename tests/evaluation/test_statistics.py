"""Intervals and tests against values worked out by hand, by table, or by scipy another way."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.charts.ranks import blocked_difference, least_t
from sgid.evaluation.statistics import (
    Estimate,
    holm,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_difference,
    wilson,
)


def test_mean_interval_uses_students_t():
    # mean 72, s = 2, t(2; .975) = 4.302653: half = 4.302653 * 2 / sqrt(3)
    estimate = mean_interval([70.0, 72.0, 74.0])
    assert estimate.value == 72
    assert estimate.half_width == pytest.approx(4.302653 * 2 / math.sqrt(3), rel=1e-6)
    assert estimate.n == 3
    one = mean_interval([70.0])
    assert one.value == 70 and math.isnan(one.half_width) and not one.excludes_zero


def test_wilson_against_the_closed_formula():
    # Wilson (1927) for 8 of 10 at z = 1.959964
    z, n, p = 1.959963985, 10, 0.8
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    estimate = wilson(8, 10)
    assert estimate.value == 80
    assert estimate.low == pytest.approx(100 * (centre - half), rel=1e-6)
    assert estimate.high == pytest.approx(100 * (centre + half), rel=1e-6)
    # at k = n: low = n / (n + z²), high = 1
    assert wilson(20, 20).low == pytest.approx(100 * 20 / (20 + z * z), rel=1e-6)
    assert wilson(20, 20).high == pytest.approx(100) and wilson(0, 20).low == 0


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_accuracy(correct: int, total: int):
    with pytest.raises(ValueError, match="not an accuracy"):
        wilson(correct, total)


def test_paired_difference_is_the_paired_t_test():
    ours, base = [73.0, 75.5, 71.0, 74.0], [70.0, 74.0, 69.5, 70.0]
    estimate = paired_difference(ours, base)
    reference = stats.ttest_rel(ours, base)
    interval = reference.confidence_interval(0.95)
    assert estimate.value == pytest.approx(2.5)
    assert estimate.p == pytest.approx(reference.pvalue)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    assert estimate.excludes_zero
    assert estimate.p < 0.05 < stats.ttest_ind(ours, base).pvalue, "pairing matters"


@pytest.mark.parametrize(
    ("ours", "base"),
    [([73.0], [70.0]), ([73.2, 71.4], [70.2, 68.4]), ([1.0, 1.0], [1.0, 1.0])],
)
def test_a_difference_without_spread_claims_nothing(ours: list[float], base: list[float]):
    estimate = paired_difference(ours, base)
    assert estimate.value == pytest.approx(ours[0] - base[0])
    assert math.isnan(estimate.p) and math.isnan(estimate.low)
    assert not estimate.excludes_zero


def test_paired_difference_of_nothing_and_of_unequal_lengths():
    assert math.isnan(paired_difference([], []).value)
    with pytest.raises(ValueError, match="paired"):
        paired_difference([1.0, 2.0], [1.0])


def test_mcnemar_by_hand():
    # 8 images gained, 2 lost: 2 * sum_{k<=2} C(10, k) / 2^10 = 2 * 56 / 1024
    ours = [True] * 8 + [False] * 2 + [True] * 30
    base = [False] * 8 + [True] * 2 + [True] * 30
    assert mcnemar(ours, base) == pytest.approx(112 / 1024)
    assert mcnemar(ours, ours) == 1


def test_paired_bootstrap_agrees_with_scipys():
    rng = np.random.default_rng(1)
    base = rng.random(800) < 0.6
    ours = np.where(rng.random(800) < 0.15, rng.random(800) < 0.9, base)
    estimate = paired_bootstrap(ours, base)
    reference = stats.bootstrap(
        (100 * (ours.astype(float) - base),),
        np.mean,
        method="percentile",
        n_resamples=5000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert estimate.value == pytest.approx(100 * (ours.mean() - base.mean()))
    assert estimate.low == pytest.approx(reference.low, abs=0.15)
    assert estimate.high == pytest.approx(reference.high, abs=0.15)
    assert estimate.p == mcnemar(ours, base)


def test_paired_bootstrap_is_repeatable_and_sane_at_zero():
    ours = np.array([True, False, True, True])
    assert paired_bootstrap(ours, ours) == paired_bootstrap(ours, ours)
    assert (paired_bootstrap(ours, ours).low, paired_bootstrap(ours, ours).high) == (0, 0)
    with pytest.raises(ValueError, match="same test images"):
        paired_bootstrap(ours, ours[:2])


def test_holm_by_hand_and_as_statsmodels_has_it():
    # sorted .01 .02 .03 .04 -> .04 .06 .06 .06 (kept monotone)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([]) == []
    # tests that were not made do not count
    assert holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    pvalues = np.random.default_rng(5).random(12) ** 3
    reference = multitest.multipletests(pvalues, method="holm")[1]
    assert holm(pvalues.tolist()) == pytest.approx(reference.tolist())


def test_the_difference_over_one_block_is_paired_and_over_two_welchs_t_test():
    ours, base = [73.0, 75.5, 71.0, 74.0], [70.0, 74.0, 69.5, 70.0]
    one = blocked_difference([[a - b for a, b in zip(ours, base, strict=True)]])
    paired = paired_difference(ours, base)
    assert (one.value, one.low, one.p, one.n) == pytest.approx(
        (paired.value, paired.low, paired.p, paired.n)
    )
    # The mean of x and -y is half the difference of x and y.
    x, y = [1.0, 2.5, 1.7, 3.0], [0.2, -4.0, 2.0]
    reference = stats.ttest_ind(x, y, equal_var=False)
    interval = reference.confidence_interval(0.95)
    blocked = blocked_difference([x, [-value for value in y]])
    assert blocked.value == pytest.approx((np.mean(x) - np.mean(y)) / 2)
    assert blocked.p == pytest.approx(reference.pvalue)
    assert (2 * blocked.low, 2 * blocked.high) == pytest.approx((interval.low, interval.high))
    assert blocked.n == 7


@pytest.mark.parametrize(
    ("blocks", "value"),
    [
        ([[1.0, 2.0], [3.0]], 2.25),
        ([[1.0, 1.0], [2.0, 2.0]], 1.5),
        ([], math.nan),
        ([[1.0, 2.0], []], math.nan),
    ],
)
def test_blocks_without_spread_or_pairs_claim_nothing(blocks, value):
    estimate = blocked_difference(blocks)
    assert estimate.value == pytest.approx(value, nan_ok=True)
    assert math.isnan(estimate.p) and math.isnan(estimate.low)


def test_a_difference_is_supported_by_its_interval_and_its_corrected_p():
    assert Estimate(1, 0.5, 1.5, 3, 0.01).supported and Estimate(-1, -1.5, -0.5, 3, 0.01).supported
    assert not Estimate(1, 0.5, 1.5, 3, 0.2).supported  # corrected away
    assert not Estimate(1, -0.5, 2.5, 3, 0.01).supported
    assert not Estimate(1, 0.5, 1.5, 3).supported  # not tested


def test_the_least_t_is_where_holms_first_step_says_yes():
    # Student's table: t(2; .975) = 4.303, t(4; .975) = 2.776
    assert least_t(2, 1) == pytest.approx(4.303, abs=1e-3)
    assert least_t(4, 1) == pytest.approx(2.776, abs=1e-3)
    least = least_t(2, 48)
    for t, accepted in ((least * 0.999, False), (least * 1.001, True)):
        p = 2 * float(stats.t.sf(t, 2))
        assert (holm([p] + [0.9] * 47)[0] < 0.05) == accepted
