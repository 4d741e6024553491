"""`--plan`: the runs that are left, and their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.paper.cells import Cell, Wanted
from experiments.paper.rates import Rates
from sgid.reporting.format import ABSENT
from sgid.reporting.table import Cell as Text
from sgid.reporting.table import Table

HEADERS = (
    "experiment",
    "runs",
    "finished",
    "shared with one above",
    "to run",
    "stores",
    "of them there",
    "images to make",
    "time",
)


def plan_table(experiments: Mapping[str, Sequence[Cell]], rates: Rates, processes: int) -> Table:
    """A row per experiment and their sum.

    Runs and stores are counted where they are first asked for: experiments share them.
    """
    seen: set[Path] = set()
    claimed: set[Path] = set()
    rows: list[tuple[str, ...]] = []
    sums = [0] * 7
    whole, unknown = 0.0, set[str]()
    for name, cells in experiments.items():
        own = [cell for cell in cells if cell.folder not in seen]
        seen |= {cell.folder for cell in own}
        left = [cell for cell in own if not cell.finished]
        stores = _stores(own, claimed)
        claimed |= stores.keys()
        missing = [store for store in stores.values() if not store.complete]
        images = sum(store.rows or 0 for store in missing)
        seconds, unmeasured = _seconds(left, images, rates)
        whole, unknown = whole + seconds, unknown | unmeasured
        counts = [
            *(len(cells), sum(cell.finished for cell in cells), len(cells) - len(own), len(left)),
            *(len(stores), len(stores) - len(missing), images),
        ]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        rows.append((name, *(f"{count:,}" for count in counts), _time(seconds / processes)))
    rows.append(("all", *(f"{count:,}" for count in sums), _time(whole / processes)))
    return Table(
        "Plan",
        HEADERS,
        tuple(tuple(Text(text) for text in row) for row in rows),
        (*_absent(experiments), *_unclassified(experiments), *_notes(rates, processes, unknown)),
    )


def _seconds(left: Sequence[Cell], images: int, rates: Rates) -> tuple[float, set[str]]:
    """Seconds of the runs that are left, as far as known, and the parts that are not known."""
    unknown = {cell.backbone for cell in left if cell.backbone not in rates.seconds}
    seconds = sum(rates.seconds.get(cell.backbone, 0.0) for cell in left)
    if images and rates.images is None:
        return seconds, unknown | {"generation"}
    return seconds + (images / rates.images if rates.images else 0), unknown


def _notes(rates: Rates, processes: int, unknown: set[str]) -> tuple[str, ...]:
    measured = [f"{name} {seconds:.0f} s a run" for name, seconds in rates.seconds.items()]
    if rates.images:
        measured.append(f"{rates.images:.0f} images/s a process")
    notes = [
        f"Time is for {processes} process{'es' * (processes > 1)} at once, at the rates that "
        f"{rates.runs:,} finished runs and {rates.stores:,} stores show: {', '.join(measured)}."
        if measured
        else "Nothing has finished here yet, so there is no rate to tell the time by."
    ]
    if measured and unknown:
        notes.append(f"Not in the time, since never measured here: {', '.join(sorted(unknown))}.")
    return tuple(notes)


def _stores(cells: Sequence[Cell], claimed: set[Path]) -> dict[Path, Wanted]:
    """Stores that no experiment before has asked for."""
    wanted = (store for cell in cells for store in cell.stores)
    return {store.folder: store for store in wanted if store.folder not in claimed}


def _absent(experiments: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Sentence on data or weights that are missing, so that finished runs are unknown."""
    cells = [cell for cells in experiments.values() for cell in cells if cell.absent]
    if not cells:
        return []
    names = ", ".join(dict.fromkeys(cell.absent for cell in cells))
    return [
        f"The images of {names}, or the weights for them, are not here (the first run says which): "
        "runs and stores are counted, but not their images, nor whether they are finished."
    ]


def _unclassified(experiments: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Sentence on the work that is no training, and not in the time."""
    left = [
        cell
        for cells in experiments.values()
        for cell in cells
        if cell.classified and not cell.finished
    ]
    text = (
        f"The images of {len(left):,} runs have no predictions of the classifier yet: seconds each."
    )
    return [text] if left else []


def _time(seconds: float) -> str:
    if not seconds:
        return ABSENT
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
