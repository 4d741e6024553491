"""Methods ranked over blocks: is there any difference, and which pairs can be told apart?

A block is a dataset that all methods were tried on, its seeds and backbones averaged: the tests
take blocks to be independent, which backbones that train on the same images are not. Ranks ask
less of the figures than means do, for points of accuracy on an easy and a hard dataset are not
alike; but they need many blocks to say anything (Demšar, JMLR 7, 2006), and one says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sgid.evaluation.statistics import ALPHA, Estimate


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods, best first; 1 is the best rank, ties share theirs.

    `blocks` are those that were ranked, `incomplete` those left out as some method is missing
    there. `ranks` has one row per block: (blocks, methods).
    """

    methods: tuple[str, ...]
    blocks: tuple[str, ...]
    incomplete: tuple[str, ...]
    ranks: np.ndarray

    @property
    def means(self) -> list[float]:
        """The mean rank of each method, ascending."""
        return self.ranks.mean(axis=0).tolist()


def rank(scores: Mapping[str, Mapping[str, float]]) -> Ranking | None:
    """Rank methods by `scores[block][method]`, where more is better.

    Only blocks in which every method has a score are ranked; `None` if there is no such block, or
    but one method.
    """
    from scipy import stats

    methods = list(dict.fromkeys(method for block in scores.values() for method in block))
    complete = [name for name, block in scores.items() if len(block) == len(methods)]
    if not complete or len(methods) < 2:
        return None
    values = np.array([[scores[block][method] for method in methods] for block in complete])
    ranks = stats.rankdata(-values, axis=1)  # (blocks, methods)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    return Ranking(
        tuple(methods[index] for index in order),
        tuple(complete),
        tuple(name for name in scores if name not in complete),
        ranks[:, order],
    )


def friedman(ranks: np.ndarray, *, resamples: int = 20_000, seed: int = 0) -> float:
    """Friedman's test (JASA 32, 1937) that all methods are alike; p by permutation.

    `ranks`: (blocks, methods). Were all alike, each block's ranks could stand in any order: the
    test compares the spread of the mean ranks with that of so many random orders. The usual
    chi-square needs more than ten blocks; this holds for any number, and gives 1 for a single one.
    """
    rng = np.random.default_rng(seed)
    sums = np.zeros((resamples, ranks.shape[1]))
    for block in ranks:
        sums += rng.permuted(np.tile(block, (resamples, 1)), axis=1)
    # For given ranks Friedman's statistic grows with the sums' variance, and with nothing else.
    spread, observed = sums.var(axis=1), ranks.sum(axis=0).var()
    return float((1 + np.sum(spread >= observed - 1e-9)) / (1 + resamples))


def critical_difference(methods: int, blocks: int, alpha: float = 0.05) -> float:
    """The least difference of two mean ranks that Nemenyi's test supports.

    q(α; k, ∞) / √2 · √(k (k + 1) / 6 n), Demšar 2006, equation in section 3.2.2. It holds for all
    pairs at once: nothing more is to be corrected.
    """
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def cliques(means: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The longest runs of methods that cannot be told apart, as first and last index.

    `means` are ascending. Runs within another, and of one method, are left out.
    """
    found: list[tuple[int, int]] = []
    for first, mean in enumerate(means):
        last = max(index for index, other in enumerate(means) if other - mean <= difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def blocked_difference(blocks: Sequence[Sequence[float]], confidence: float = 0.95) -> Estimate:
    """The mean over blocks (datasets) of the mean over seeds of paired differences.

    `blocks`: for each block, a difference per seed. Blocks count alike, however many seeds they
    have, and each keeps its own spread: the interval is Welch and Satterthwaite's
    (Biometrics 2, 1946), with p for "the mean is zero". For one block it is the paired t-test.
    The blocks are taken as given: it says what other seeds would change, not other datasets. Seeds
    must be independent; average over backbones that share a seed's images beforehand.

    A block of one seed has no known spread: then there is a value, but no interval and no p.
    """
    from scipy import stats

    samples = [np.asarray(block, dtype=float) for block in blocks]
    pairs = sum(map(len, samples))
    if not samples or not all(map(len, samples)):
        return Estimate(math.nan, math.nan, math.nan, pairs)
    mean = float(np.mean([sample.mean() for sample in samples]))
    if min(map(len, samples)) < 2 or max(map(np.ptp, samples)) < 1e-9:
        return Estimate(mean, math.nan, math.nan, pairs)
    parts = np.array([stats.sem(sample) ** 2 for sample in samples]) / len(samples) ** 2
    freedom = parts.sum() ** 2 / sum(
        part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True)
    )
    error = math.sqrt(parts.sum())
    half = float(stats.t.ppf((1 + confidence) / 2, freedom) * error)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Estimate(mean, mean - half, mean + half, pairs, p)


def least_t(freedom: float, tests: int) -> float:
    """The smallest |t| that the first step of Holm's correction over so many tests accepts.

    That is α / tests, two-sided, with `freedom` degrees of freedom (of a paired t-test, the pairs
    less one). A mean difference is |t| standard errors from zero: no smaller one can be supported,
    unless a larger one in the family is.
    """
    from scipy import stats

    return float(stats.t.isf(ALPHA / tests / 2, freedom))
