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
    """How far two mean ranks must be apart for Nemenyi's test to tell them apart.

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
