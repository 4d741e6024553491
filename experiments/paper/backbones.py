"""Backbones averaged: what a seed's images do to all of them, tested over seeds, ranked by dataset.

Backbones that train on the same images are no independent repetitions. Their mean is one figure for
each seed, and less noisy than that of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from experiments.charts.ranks import Ranking, critical_difference, friedman, rank
from experiments.paper.contrasts import (
    Arms,
    Aug,
    Contrast,
    Found,
    blocks,
    corrected,
    pooled,
    top1,
)
from sgid.evaluation.statistics import mean_interval, paired_difference
from sgid.reporting.format import aug_text, p_text
from sgid.reporting.results import Result

MEAN = "mean of backbones"


def shared(results: Sequence[Result]) -> dict[str, dict[str, Arms]]:
    """The runs by dataset and backbone, with the backbones that all of a dataset's arms have."""
    found: dict[str, dict[str, Arms]] = {}
    for (dataset, backbone), arms in blocks(results).items():
        found.setdefault(dataset, {})[backbone] = arms
    return {
        dataset: {
            backbone: arms
            for backbone, arms in backbones.items()
            if all(aug in arms for others in backbones.values() for aug in others)
        }
        for dataset, backbones in found.items()
    }


def over_backbones(
    results: Sequence[Result], contrasts: Callable[[Arms], Sequence[Contrast]]
) -> list[Found]:
    """Every contrast, averaged over the backbones of a seed and then tested over seeds.

    Over several datasets each counts alike; one dataset stands for itself. All p are one family of
    Holm's. Empty where no dataset has two backbones in common to all its arms.
    """
    found: list[Found] = []
    for dataset, backbones in shared(results).items():
        if len(backbones) < 2:
            continue
        for contrast in contrasts(next(iter(backbones.values()))):
            ours, theirs = (_mean(backbones, aug) for aug in (contrast.ours, contrast.theirs))
            both = [seed for seed in ours if seed in theirs]
            if both:
                found.append(
                    Found(
                        contrast,
                        (dataset, MEAN),
                        mean_interval(list(ours.values())),
                        mean_interval(list(theirs.values())),
                        paired_difference([ours[s] for s in both], [theirs[s] for s in both]),
                        len(both) - 1,
                        tuple(ours[s] - theirs[s] for s in both),
                    )
                )
    return corrected(pooled(found) or found)


def ranking(results: Sequence[Result]) -> Ranking | None:
    """Augmentations by dataset, top-1 averaged over the backbones and the seeds that all have."""
    scores: dict[str, dict[str, float]] = {}
    for dataset, backbones in shared(results).items():
        arms = [runs for one in backbones.values() for runs in one.values()]
        seeds = set(arms[0]).intersection(*arms) if arms else set()
        scores[dataset] = {
            aug_text(aug): fmean(
                top1({seed: one[aug][seed] for seed in seeds}).value for one in backbones.values()
            )
            for aug in (next(iter(backbones.values())) if seeds else ())
        }
    return rank(scores)


def ranks_said(ranked: Ranking) -> str:
    """The best mean rank and SGID's; over several datasets also what the tests say of them."""
    means = dict(zip(ranked.methods, ranked.means, strict=True))
    count, datasets = len(means), len(ranked.blocks)
    several = datasets > 1
    text = f"Over {datasets} datasets" if several else f"On {ranked.blocks[0]}"
    text += f", backbones averaged, {_ranked(ranked.methods[0], means, several)}"
    if "sgid" in means and ranked.methods[0] != "sgid":
        text += f", {_ranked('sgid', means, several)}"
    text += f", of {count} augmentations. "
    if several:
        text += (
            f"Friedman's test that all are alike: {p_text(friedman(ranked.ranks))}, by "
            "permutation. Two can be told apart from "
            f"{critical_difference(count, datasets):.1f} ranks on."
        )
    else:
        text += "One dataset: not tested."
    if ranked.incomplete:
        text += f" Not ranked, as runs are missing: {', '.join(ranked.incomplete)}."
    return text


def _ranked(method: str, means: Mapping[str, float], several: bool) -> str:
    if several:
        return f"{method} has mean rank {means[method]:.2f}"
    return f"{method} has rank {means[method]:g}"


def _mean(backbones: Mapping[str, Arms], aug: Aug) -> dict[int, float]:
    """Test top-1 (%), the mean of the backbones, of each seed that all of them have."""
    runs = [arms[aug] for arms in backbones.values() if aug in arms]
    return {
        seed: fmean(one[seed].metrics["test/top1"] for one in runs)
        for seed in (runs[0] if runs else ())
        if all(seed in one for one in runs)
    }
