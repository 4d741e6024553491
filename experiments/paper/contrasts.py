"""Pairs of augmentations that an experiment compares, tested over equal seeds.

A block is a dataset with a backbone. Within one, two augmentations are compared by the paired
t-test over seeds; over several datasets by the mean of these differences, each dataset counting
alike (`experiments.charts.ranks.blocked_difference`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from experiments.charts.ranks import blocked_difference, least_t
from sgid.evaluation.statistics import Estimate, holm, mean_interval, paired_difference
from sgid.reporting.format import ABSENT, difference_text, mean_text, p_text, signed
from sgid.reporting.results import Result
from sgid.reporting.table import Cell, Table

Aug = tuple[str, ...]
Arms = Mapping[Aug, Mapping[int, Result]]
"""The runs of a block: by augmentation, by seed."""
Block = tuple[str, str]
"""A dataset and a backbone."""
ALL = "all datasets"


@dataclass(frozen=True)
class Contrast:
    """A comparison, `ours` minus `theirs`, with its name."""

    name: str
    ours: Aug
    theirs: Aug


@dataclass(frozen=True)
class Found:
    """A contrast in one block: test top-1 of both, and their difference with its corrected p.

    Over all datasets only the difference is known. `pairs` are the differences of each seed, and
    `freedom` the degrees of freedom that the test has, or has at most where Welch's are fewer.
    """

    contrast: Contrast
    block: Block
    ours: Estimate | None
    theirs: Estimate | None
    difference: Estimate
    freedom: int
    pairs: tuple[float, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether the test supports that there is a difference."""
        return self.difference.supported


def blocks(results: Sequence[Result]) -> dict[Block, Arms]:
    """The runs by dataset and backbone, in order of appearance; of equal seeds the later counts."""
    found: dict[Block, dict[Aug, dict[int, Result]]] = {}
    for result in results:
        block = (str(result.choices["dataset"]), str(result.choices["backbone"]))
        found.setdefault(block, {}).setdefault(result.aug, {})[result.seed] = result
    return dict(found)


def top1(runs: Mapping[int, Result], part: str = "test") -> Estimate:
    """Mean top-1 (%) over seeds."""
    name = f"{part}/top1"
    return mean_interval([run.metrics[name] for run in runs.values() if name in run.metrics])


def compare(
    results: Sequence[Result], contrasts: Callable[[Arms], Sequence[Contrast]]
) -> list[Found]:
    """Every contrast in every block where both have a seed in common, then over all datasets.

    p is Holm-corrected over the single blocks, and on its own over the rows for all datasets.
    """
    single = [
        one
        for block, arms in blocks(results).items()
        for contrast in contrasts(arms)
        if (one := _compare(contrast, block, arms)).pairs
    ]
    return [*corrected(single), *corrected(pooled(single))]


def _compare(contrast: Contrast, block: Block, arms: Arms) -> Found:
    ours, theirs = arms.get(contrast.ours, {}), arms.get(contrast.theirs, {})
    both = [
        (ours[s].metrics["test/top1"], theirs[s].metrics["test/top1"]) for s in ours if s in theirs
    ]
    return Found(
        contrast,
        block,
        top1(ours),
        top1(theirs),
        paired_difference([a for a, _ in both], [b for _, b in both]),
        len(both) - 1,
        tuple(a - b for a, b in both),
    )


def pooled(found: Sequence[Found]) -> list[Found]:
    """Differences over several datasets with the same backbone, each dataset counting alike."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        groups.setdefault((one.contrast.name, one.block[1]), []).append(one)
    return [
        Found(
            ones[0].contrast,
            (ALL, backbone),
            None,
            None,
            blocked_difference([one.pairs for one in ones]),
            sum(one.freedom for one in ones),
        )
        for (_, backbone), ones in groups.items()
        if len(ones) > 1
    ]


def corrected(found: Sequence[Found]) -> list[Found]:
    """The same contrasts with Holm's p, as one family."""
    pvalues = holm([one.difference.p for one in found])
    return [
        replace(one, difference=replace(one.difference, p=p))
        for one, p in zip(found, pvalues, strict=True)
    ]


def place(block: Block, found: Sequence[Found]) -> str:
    """The part of a block that others do not share: dataset, backbone, both, or nothing."""
    varied = [part for i, part in enumerate(block) if len({one.block[i] for one in found}) > 1]
    return ", ".join(varied)


def table(found: Sequence[Found], title: str, names: Sequence[str]) -> Table:
    """A row per contrast and block; `names` head the contrast, ours, theirs and the difference."""
    several = len({one.block for one in found}) > 1
    contrast, ours, theirs, difference = names
    rows = [
        (
            *([Cell(place(one.block, found))] if several else []),
            Cell(one.contrast.name),
            Cell(mean_text(one.ours) if one.ours else ABSENT),
            Cell(mean_text(one.theirs) if one.theirs else ABSENT),
            Cell(difference_text(one.difference, one.difference.p), bold=one.supported),
        )
        for one in found
    ]
    heads = (*(["where"] if several else []), contrast, ours, theirs, difference)
    return Table(title, heads, tuple(rows), notes(found))


def notes(found: Sequence[Found]) -> tuple[str, ...]:
    """Sentences on the tests of the differences."""
    single = [one for one in found if one.block[0] != ALL]
    pooled = [one for one in found if one.block[0] == ALL]
    tested = sum(not math.isnan(one.difference.p) for one in single)
    text = [
        "Test top-1 in percent, ± the half-width of the 95 % t-interval over seeds. Differences "
        "are in points, paired over equal seeds."
    ]
    if tested:
        text.append(
            f"p is the paired t-test's, Holm-corrected over the {tested} tested here. Bold: the "
            "interval excludes zero and p < .05."
        )
    if any(math.isnan(one.difference.p) for one in found):
        text.append("A difference without p rests on a single pair of seeds, or on equal ones.")
    if pooled:
        text.append(
            "Over all datasets each counts alike; the interval (Welch and Satterthwaite's) says "
            "what other seeds would change, not other datasets. Holm-corrected on their own."
        )
    return tuple(text)


def drawn(found: Sequence[Found]) -> list[Found]:
    """The rows of a figure: those over all datasets where there are any, otherwise all."""
    return [one for one in found if one.block[0] == ALL] or list(found)


def panels(found: Sequence[Found]) -> dict[str, dict[str, Estimate]]:
    """Panels of a forest plot, one per backbone, of what is `drawn`."""
    backbones = list(dict.fromkeys(one.block[1] for one in found))
    shown = sorted(drawn(found), key=lambda one: backbones.index(one.block[1]))
    return {
        backbone: {one.contrast.name: one.difference for one in ones}
        for backbone, ones in groupby(shown, key=lambda one: one.block[1])
    }


def tested(found: Sequence[Found]) -> str:
    """The end of a figure's caption, on the tests of the rows that are `drawn`."""
    text = "95 % intervals over seeds. Full marks: supported by the "
    if any(one.block[0] == ALL for one in found):
        return (
            f"over all datasets, each counting alike, with {text}test over all datasets, "
            "Holm-corrected over these."
        )
    return f"with {text}paired test, Holm-corrected over these."


def points(difference: Estimate) -> str:
    """`+1.20 ± 0.80 points, p = .012`"""
    text = signed(difference.value)
    if not math.isnan(difference.half_width):
        text += f" ± {difference.half_width:.2f}"
    p = difference.p
    return f"{text} points, {'not tested' if math.isnan(p) else p_text(p)}"


def said(one: Found, found: Sequence[Found]) -> str:
    """`+1.20 ± 0.80 points, p = .012 (small_vit)`"""
    where = place(one.block, found)
    return f"{points(one.difference)} ({where})" if where else points(one.difference)


def tally(found: Sequence[Found], better: str, worse: str) -> str:
    """Counts of the differences `drawn` that tests support, and the least that they could see."""
    shown = drawn(found)
    up = sum(one.supported and one.difference.value > 0 for one in shown)
    down = sum(one.supported and one.difference.value < 0 for one in shown)
    plain = sum(one.difference.value > 0 for one in shown)
    text = (
        f"Of {len(shown)} comparisons the mean is {better} in {plain}. The tests support {better} "
        f"in {up}, {worse} in {down}, and neither in {len(shown) - up - down}."
    )
    known = [one for one in shown if not math.isnan(one.difference.p)]
    if not known:
        return text
    freedom = max(one.freedom for one in known)
    pairs = max(one.difference.n for one in known)
    return (
        f"{text} With {pairs} pairs of seeds and {len(known)} tested, Holm's first step accepts no "
        f"difference below {least_t(freedom, len(known)):.1f} standard errors."
    )
