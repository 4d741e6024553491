"""The table that papers print: augmentations down, datasets and backbones across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sgid.evaluation.statistics import Estimate, holm, mean_interval
from sgid.reporting.arms import BASELINE, GROUPS, find_baseline, varying
from sgid.reporting.results import Result
from sgid.reporting.rows import (
    CHOSEN_NOTE,
    Row,
    choice,
    choices,
    difference,
    fixed,
    rows_of,
    setting,
)
from sgid.reporting.table import Cell, Table
from sgid.reporting.wording import ABSENT, aug_text, mean_text, signed

ACROSS = ("dataset", "backbone")


def matrix_table(
    results: Sequence[Result], title: str = "Test top-1 (%) by augmentation"
) -> Table | None:
    """A row per augmentation in order of appearance, a column per dataset and backbone.

    A cell says the mean over the seeds, ± the half-width of its 95 % t-interval, and in brackets
    the difference to `flip_crop`. Where more is varied than the augmentation, a row is an
    augmentation with those settings. `None` where there is but one dataset and one backbone.
    """
    arms = rows_of(results)
    if all(len(choices(arms, group)) < 2 for group in ACROSS):
        return None
    columns = _columns(arms)
    groups = [
        group
        for group in GROUPS
        if group not in ACROSS
        and any(len(choices((a for a in arms if _across(a) == c), group)) > 1 for c in columns)
    ]
    keys = varying(results)
    differences = [difference(row, results, find_baseline) for row in arms]
    corrected = holm([estimate.p for estimate in differences])
    rows: dict[tuple[str, ...], dict[tuple[str, ...], Cell]] = {}
    for row, estimate, p in zip(arms, differences, corrected, strict=True):
        first = row[0]
        label = (
            aug_text(first.aug),
            *(choice(first, group) or ABSENT for group in groups),
            *(setting(first, key) for key in keys),
        )
        cells = rows.setdefault(label, {})
        assert _across(row) not in cells, f"two arms in one cell: {label}, {_across(row)}"
        cells[_across(row)] = _cell(row, estimate, p)
    varied = [i for i, group in enumerate(ACROSS) if len(choices(arms, group)) > 1]
    return Table(
        title,
        ("augmentation", *groups, *keys, *(" ".join(c[i] for i in varied) for c in columns)),
        tuple(
            (*map(Cell, label), *(cells.get(column, Cell(ABSENT)) for column in columns))
            for label, cells in rows.items()
        ),
        _notes(arms, differences),
    )


def _across(row: Row) -> tuple[str, ...]:
    return tuple(choice(row[0], group) or ABSENT for group in ACROSS)


def _columns(arms: Sequence[Row]) -> list[tuple[str, ...]]:
    """Dataset by dataset, the backbones of each in one order."""
    datasets, backbones = (choices(arms, group) for group in ACROSS)
    present = {_across(row) for row in arms}
    return [(d, b) for d in datasets for b in backbones if (d, b) in present]


def _cell(row: Row, estimate: Estimate, p: float) -> Cell:
    text = mean_text(mean_interval([result.metrics["test/top1"] for result in row]))
    if estimate.n:
        pairs = f", {estimate.n} of {len(row)} seeds" if estimate.n < len(row) else ""
        text += f" ({signed(estimate.value)}{pairs})"
    # A lead only: the comparison table marks what is worse as well.
    return Cell(text, bold=estimate.value > 0 and replace(estimate, p=p).supported)


def _notes(arms: Sequence[Row], differences: Sequence[Estimate]) -> tuple[str, ...]:
    same = fixed(arms)
    notes = [f"All cells: {', '.join(same)}."] if same else []
    low, high = min(map(len, arms)), max(map(len, arms))
    seeds = f"{low} to {high} seeds" if low < high else f"{low} seeds"
    text = "One seed each, and so no interval"
    if high > 1:
        text = f"Means over {seeds}, ± the half-width of the 95 % t-interval of the mean"
        text += "; one seed alone has none" if low == 1 else ""
    if any(estimate.n for estimate in differences):
        text += f". In brackets: the difference to {BASELINE} in points, paired over equal seeds"
    notes.append(f"{text}.")
    if tests := sum(not math.isnan(estimate.p) for estimate in differences):
        notes.append(
            f"Bold: a lead over {BASELINE} whose 95 % interval excludes zero and whose p < .05 in "
            f"the paired t-test, Holm-corrected over the {tests} tested in this table."
        )
    elif any(estimate.n for estimate in differences):
        notes.append("No lead is bold: none could be tested with so few seeds.")
    return (*notes, CHOSEN_NOTE)
