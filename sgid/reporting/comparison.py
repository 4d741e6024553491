"""One table of many runs: a row per arm, its seeds averaged, its lead tested in pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sgid.evaluation.statistics import Estimate, holm, mean_interval
from sgid.reporting.arms import BASELINE, GROUPS, find_baseline, find_perturbed, varying
from sgid.reporting.results import Result
from sgid.reporting.rows import (
    CHOSEN_NOTE,
    Partner,
    Row,
    choice,
    choices,
    difference,
    fixed,
    rows_of,
    setting,
)
from sgid.reporting.table import Cell, Table
from sgid.reporting.wording import ABSENT, aug_text, difference_text, mean_text, sizes_text

_PARTNERS: dict[str, Partner] = {
    f"vs {BASELINE}": find_baseline,
    "vs perturbation alone": find_perturbed,
}


def comparison_table(results: Sequence[Result], title: str = "Comparison") -> Table:
    """Rows are arms, in the order in which they first appear in `results`.

    A column is shown for every choice and config value that varies among the arms. Differences
    are taken between runs of the same seed and Holm-corrected over the whole table.
    """
    rows = rows_of(results)
    groups = [group for group in GROUPS if len(choices(rows, group)) > 1]
    keys = varying(results)
    differences = {
        header: [difference(row, results, partner) for row in rows]
        for header, partner in _PARTNERS.items()
    }
    differences = {
        header: column for header, column in differences.items() if any(e.n for e in column)
    }
    corrected = iter(holm([e.p for column in differences.values() for e in column]))
    compared = {
        header: [
            _difference_cell(e, next(corrected), len(row))
            for e, row in zip(column, rows, strict=True)
        ]
        for header, column in differences.items()
    }
    cells = [
        (
            *(Cell(choice(row[0], group) or ABSENT) for group in groups),
            Cell(aug_text(row[0].aug)),
            *(Cell(setting(row[0], key)) for key in keys),
            Cell(str(len(row))),
            Cell(_test(row)),
            Cell(_validation(row)),
            *(column[index] for column in compared.values()),
        )
        for index, row in enumerate(rows)
    ]
    headers = (
        *groups,
        "augmentation",
        *keys,
        "seeds",
        "test top-1 (%)",
        "validation top-1 (%)",
        *(f"{header} (points)" for header in compared),
    )
    return Table(title, headers, tuple(cells), _notes(rows, differences))


def _test(row: Row) -> str:
    estimate = mean_interval([result.metrics["test/top1"] for result in row])
    metrics = row[0].metrics
    if len(row) == 1 and {"test/top1_low", "test/top1_high"} <= metrics.keys():
        low, high = metrics["test/top1_low"], metrics["test/top1_high"]
        return f"{estimate.value:.2f} [{low:.2f}, {high:.2f}]"
    return mean_text(estimate)


def _validation(row: Row) -> str:
    values = [r.metrics["validation/top1"] for r in row if "validation/top1" in r.metrics]
    return mean_text(mean_interval(values)) if values else ABSENT


def _difference_cell(estimate: Estimate, p: float, seeds: int) -> Cell:
    if not estimate.n:
        return Cell(ABSENT)
    text = difference_text(estimate, p)
    if estimate.n < seeds:
        text += f", {estimate.n} of {seeds} seeds"
    return Cell(text, bold=replace(estimate, p=p).supported)


def _notes(rows: Sequence[Row], differences: Mapping[str, Sequence[Estimate]]) -> tuple[str, ...]:
    if not rows:
        return ("No run has finished.",)
    same = fixed(rows)
    notes = [f"All rows: {', '.join(same)}."] if same else []
    if any(len(row) > 1 for row in rows):
        notes.append("± is the half-width of the 95 % t-interval of the mean over the seeds.")
    if any(len(row) == 1 for row in rows):
        notes.append(
            "One seed only: the brackets are the 95 % Wilson interval over the test images, which "
            "leaves out how much another seed would change."
        )
    estimates = [estimate for column in differences.values() for estimate in column]
    if tests := sum(not math.isnan(estimate.p) for estimate in estimates):
        notes.append(
            "Differences are paired over equal seeds, all else being equal. p is the paired "
            f"t-test's, Holm-corrected over the {tests} tested in this table. Bold: the interval "
            "excludes zero and p < .05."
        )
    if any(estimate.n and math.isnan(estimate.p) for estimate in estimates):
        notes.append(
            "A difference without ± rests on one pair of seeds, or on pairs that all differ by "
            "the same: it is not tested."
        )
    notes.append(CHOSEN_NOTE)
    sizes = sizes_text([result.protocol for row in rows for result in row])
    return (*notes, f"Images of each run: {sizes}.") if sizes else tuple(notes)
