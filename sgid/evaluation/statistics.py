"""Statistics: intervals over seeds and over test images, and paired comparisons.

An accuracy has two sources of chance, and each function here says which one it covers: the *seeds*
(another few-shot draw, other noise, another initialisation) or the *test images*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


ALPHA = 0.05
"""Below which `p` supports a difference."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; `low`, `high` and `p` are NaN where they cannot be known.

    `n` is what was averaged over: seeds, pairs of seeds, or test images. `p` is two-sided, for
    "the value is zero"; only differences have one.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan

    @property
    def half_width(self) -> float:
        """Half the interval's length: the ± of an interval that is symmetric."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and all of it is on one side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def supported(self) -> bool:
        """Whether the test supports a difference: the interval excludes zero, and `p` < .05.

        `p` is the corrected one, where it was corrected.
        """
        return self.excludes_zero and self.p < ALPHA


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean over seeds ± t(n-1) · s / √n (Student 1908); one value has no interval."""
    from scipy import stats

    sample = np.asarray(values, dtype=float)
    n, mean = len(sample), float(np.mean(sample)) if len(sample) else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(sample))
    return Estimate(mean, mean - half, mean + half, n)


def wilson(correct: int, total: int, confidence: float = 0.95) -> Estimate:
    """Top-1 in percent with Wilson's score interval over the test images.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), E. B. Wilson, JASA 22 (1927). It stays in
    [0, 100] and does not collapse at 0 or 100 %.
    """
    from scipy import stats

    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} correct of {total} images is not an accuracy")
    interval = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Estimate(100 * correct / total, 100 * interval.low, 100 * interval.high, total)


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], confidence: float = 0.95
) -> Estimate:
    """The mean of `values - baseline` over seeds, pair by pair, with the paired t-test's p.

    Fewer than two pairs, or differences that are all equal (the t statistic is then x/0: no
    spread was observed, which is not the same as certainty), give a value without interval or p.
    """
    from scipy import stats

    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values cannot be paired with {len(baseline)}")
    differences = np.asarray(values, dtype=float) - np.asarray(baseline, dtype=float)
    if len(differences) < 2 or np.ptp(differences) < 1e-9:
        mean = float(np.mean(differences)) if len(differences) else math.nan
        return Estimate(mean, math.nan, math.nan, len(differences))
    estimate = mean_interval(differences.tolist(), confidence)
    t = estimate.value / stats.sem(differences)
    return replace(estimate, p=float(2 * stats.t.sf(abs(t), len(differences) - 1)))


def mcnemar(correct: ArrayLike, baseline: ArrayLike) -> float:
    """Exact two-sided p of McNemar's test (Psychometrika 12, 1947).

    Of the images that only one of two classifiers gets right, each got half by chance: binomial
    (b, b + c, 1/2). No such image: p = 1.
    """
    from scipy import stats

    ours, theirs = _paired(correct, baseline)
    gained, lost = int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs))
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def paired_bootstrap(
    correct: ArrayLike,
    baseline: ArrayLike,
    confidence: float = 0.95,
    *,
    resamples: int = 20_000,
    seed: int = 0,
) -> Estimate:
    """Top-1 of one run minus another's, in percent points, over the same test images.

    `correct`, `baseline`: (N,) bool, whether each image was classified rightly. The interval is
    the percentile bootstrap over images (Efron & Tibshirani 1993, ch. 13), p is McNemar's. It says
    how much depends on the choice of test images, not how much another seed would change.

    An image's difference is only ever +1, -1 or 0, so a resample is one multinomial draw of how
    many of each there are; nothing is approximated.
    """
    ours, theirs = _paired(correct, baseline)
    total = len(ours)
    gained, lost = int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs))
    shares = [gained / total, lost / total, (total - gained - lost) / total]
    draws = np.random.default_rng(seed).multinomial(total, shares, size=resamples)  # (R, 3)
    differences = 100 * (draws[:, 0] - draws[:, 1]) / total  # (R,)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    value = 100 * (gained - lost) / total
    return Estimate(value, float(low), float(high), total, mcnemar(ours, theirs))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979), in the order given.

    The i-th smallest of m is multiplied by m - i + 1, kept monotone and at most 1. A NaN is a test
    that was not made: it stays NaN and does not count.
    """
    tested = sorted((p, index) for index, p in enumerate(pvalues) if not math.isnan(p))
    adjusted = [math.nan] * len(pvalues)
    highest = 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = highest
    return adjusted


def _paired(correct: ArrayLike, baseline: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = np.asarray(correct, dtype=bool), np.asarray(baseline, dtype=bool)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise ValueError(
            f"two runs are compared on the same test images, got {ours.shape} and {theirs.shape}"
        )
    return ours, theirs
