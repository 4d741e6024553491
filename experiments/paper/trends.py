"""Gains over a baseline as a number that is set grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.paper.contrasts import points, top1
from sgid.evaluation.statistics import Estimate, holm, paired_difference
from sgid.reporting.arms import BASELINE
from sgid.reporting.format import ABSENT, difference_text, mean_text
from sgid.reporting.results import Result
from sgid.reporting.table import Cell, Table

Seeds = Mapping[int, Result]


@dataclass(frozen=True)
class Setting:
    """An augmentation at one value (`at`) of what is varied, and its gain over `flip_crop`."""

    name: str
    at: float
    ours: Estimate
    theirs: Estimate
    difference: Estimate


def compare_settings(runs: Mapping[tuple[str, float], tuple[Seeds, Seeds]]) -> list[Setting]:
    """Differences of runs to those of `flip_crop`, paired over seeds and Holm-corrected."""
    found = []
    for (name, at), (ours, theirs) in runs.items():
        shared = [seed for seed in ours if seed in theirs]
        values = [[arm[seed].metrics["test/top1"] for seed in shared] for arm in (ours, theirs)]
        found.append(
            Setting(name, at, top1(ours), top1(theirs), paired_difference(values[0], values[1]))
        )
    corrected = holm([one.difference.p for one in found])
    return [
        replace(one, difference=replace(one.difference, p=p))
        for one, p in zip(found, corrected, strict=True)
    ]


def setting_table(found: Sequence[Setting], title: str, varied: str) -> Table:
    """A row per value and augmentation; a gain in bold is one that the test supports."""
    rows = tuple(
        (
            Cell(f"{one.at:g}"),
            Cell(one.name),
            Cell(mean_text(one.ours)),
            Cell(mean_text(one.theirs) if one.theirs.n else ABSENT),
            Cell(_gain(one), bold=one.difference.supported),
        )
        for one in found
    )
    tested = sum(not math.isnan(one.difference.p) for one in found)
    notes = (
        "Test top-1 in percent, ± the half-width of the 95 % t-interval over seeds; gains in "
        "points, paired over equal seeds.",
        *(
            [
                f"p is the paired t-test's, Holm-corrected over the {tested} tested here. Bold: "
                "the interval excludes zero and p < .05."
            ]
            if tested
            else []
        ),
    )
    heads = (varied, "augmentation", "test top-1 (%)", BASELINE, f"gain over {BASELINE} (points)")
    return Table(title, heads, rows, notes)


def said(one: Setting, varied: str) -> str:
    """One sentence on a gain."""
    gain = points(one.difference) if one.difference.n else "not known"
    return f"{one.name} with {one.at:g} {varied}, over {BASELINE}: {gain}."


def verdict(difference: Estimate) -> str:
    """Sentence on the test of a difference."""
    if math.isnan(difference.p):
        return "too few seeds for a test"
    return "supported" if difference.supported else "the test does not support a change"


def slope_said(found: Sequence[Setting]) -> list[str]:
    """Whether the gain is larger at the lowest value than at the highest."""
    known = sorted((one for one in found if one.difference.n), key=lambda one: one.at)
    if len(known) < 2:
        return []
    few, many = known[0], known[-1]
    word = "larger" if few.difference.value > many.difference.value else "no larger"
    apart = few.difference.low > many.difference.high or few.difference.high < many.difference.low
    sure = "do not overlap" if apart else "overlap, or are not known"
    return [
        f"SGID's mean gain over {BASELINE} is {word} with {few.at:g} real images per class "
        f"({points(few.difference)}) than with {many.at:g} ({points(many.difference)}); their "
        f"intervals {sure}."
    ]


def _gain(one: Setting) -> str:
    return difference_text(one.difference, one.difference.p) if one.difference.n else ABSENT
