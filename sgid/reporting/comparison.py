"""Tables over many runs: one row per arm with its seeds averaged and its lead tested in pairs, and
the matrix that papers print, augmentations down, datasets and backbones across.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sgid.evaluation.statistics import Estimate, holm, mean_interval
from sgid.reporting.arms import (
    BASELINE,
    CHOSEN_NOTE,
    GROUPS,
    IMAGES,
    Partner,
    Row,
    choice,
    choices,
    difference,
    find_baseline,
    find_perturbed,
    fixed,
    image_names,
    limits_of,
    rows_of,
    setting,
    varying,
)
from sgid.reporting.format import ABSENT, aug_text, difference_text, mean_text, signed, sizes_text
from sgid.reporting.results import Result
from sgid.reporting.table import Cell, Table

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
    keys, names = varying(results), image_names(results)
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
            *(Cell(setting(row[0], key, names)) for key in keys),
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
        *map(_header, keys),
        "seeds",
        "test top-1 (%)",
        "validation top-1 (%)",
        *(f"{header} (points)" for header in compared),
    )
    return Table(title, headers, tuple(cells), _notes(rows, differences))


def _header(key: str) -> str:
    return "images" if key == IMAGES else key


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
    results = [result for row in rows for result in row]
    return (*notes, *limits_of(results), *_images(results))


def _images(results: Sequence[Result]) -> list[str]:
    """Sentences on the images that the results of a table rest on."""
    sizes, names = sizes_text([result.protocol for result in results]), image_names(results)
    notes = [f"Images of each run: {sizes}."] if sizes else []
    if len(names) == 1:
        ((images, name),) = names.items()
        notes.append(f"All of the same images: {name}, fingerprint {images[:8]}.")
    elif names:
        listed = ", ".join(
            name if images[:8] in name else f"{name} ({images[:8]})"
            for images, name in names.items()
        )
        notes.append(f"Only runs of the same images are compared with each other: {listed}.")
    return notes


ACROSS = ("dataset", "backbone")


def matrix_table(
    results: Sequence[Result], title: str = "Test top-1 (%) by augmentation"
) -> Table | None:
    """A row per augmentation in order of appearance, a column per dataset and backbone.

    A cell has the mean over the seeds, ± the half-width of its 95 % t-interval, and in brackets
    the difference to `flip_crop`. Where more than the augmentation varies, a row is an augmentation
    with those settings. `None` where there is one dataset and one backbone alone.
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
    keys, names = varying(results), image_names(results)
    differences = [difference(row, results, find_baseline) for row in arms]
    corrected = holm([estimate.p for estimate in differences])
    rows: dict[tuple[str, ...], dict[tuple[str, ...], Cell]] = {}
    for row, estimate, p in zip(arms, differences, corrected, strict=True):
        first = row[0]
        label = (
            aug_text(first.aug),
            *(choice(first, group) or ABSENT for group in groups),
            *(setting(first, key, names) for key in keys),
        )
        cells = rows.setdefault(label, {})
        assert _across(row) not in cells, f"two arms in one cell: {label}, {_across(row)}"
        cells[_across(row)] = _cell(row, estimate, p)
    varied = [i for i, group in enumerate(ACROSS) if len(choices(arms, group)) > 1]
    return Table(
        title,
        (
            "augmentation",
            *groups,
            *map(_header, keys),
            *(" ".join(c[i] for i in varied) for c in columns),
        ),
        tuple(
            (*map(Cell, label), *(cells.get(column, Cell(ABSENT)) for column in columns))
            for label, cells in rows.items()
        ),
        _matrix_notes(arms, differences),
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


def _matrix_notes(arms: Sequence[Row], differences: Sequence[Estimate]) -> tuple[str, ...]:
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
    return (*notes, CHOSEN_NOTE, *_images([result for row in arms for result in row]))
