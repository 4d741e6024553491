"""Images that were measured without a run: their page, and tables of one or of several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.reporting.kept import read_pairs
from sgid.reporting.measured import ORIGINALS, measure_rows, measures_table, notes, sets_table
from sgid.reporting.results import EVALUATION
from sgid.reporting.shown import judge_text, shown_pairs
from sgid.reporting.table import Table
from sgid.reporting.templates import render
from sgid.stores.files import write_atomic

if TYPE_CHECKING:
    from rich.console import Console


def load_evaluation(folder: Path) -> dict[str, Any] | None:
    """What `stage=evaluate evaluation.images=...` left in `folder`, or `None`."""
    path = folder / EVALUATION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_page(folder: Path) -> Path:
    """Write `evaluation.html` from what lies in `folder`."""
    told = load_evaluation(folder)
    assert told is not None
    columns = _columns(told)
    counts = told["counts"]
    sizes = [f"{counts['images']:,}", f"{counts['originals']:,}"]
    per_class = told["cosine_per_class"]
    page = render(
        "evaluation.html.j2",
        title=f"{told['method']}, measured against {told['dataset']}",
        subtitle=f"{told['path']}, finished {told['finished'][:16].replace('T', ' ')} UTC",
        notes=told["notes"],
        headers=list(columns),
        rows=[{"title": "images", "note": "", "texts": sizes}, *measure_rows(columns)],
        measure_notes=notes(counts, told["leakage"]),
        judge=judge_text(told["classifier"]),
        classes=[(name, f"{cosine:.3f}") for name, cosine in per_class.items()],
        pairs=shown_pairs(read_pairs(folder)),
        fingerprint=told["fingerprint"],
    )
    path = folder / "evaluation.html"
    write_atomic(path, page.encode())
    return path


def print_evaluation(folder: Path, console: Console) -> None:
    """The measures as a table in the terminal."""
    told = load_evaluation(folder)
    assert told is not None
    said = [*told["notes"], *notes(told["counts"], told["leakage"])]
    title = f"{told['path']}: {told['counts']['images']:,} images"
    console.print(measures_table(title, _columns(told), said).rich())


def evaluations_table(evaluations: Sequence[dict[str, Any]]) -> Table:
    """A column for each set of images, and one for the originals where all have the same."""
    measured = (told["measures"] for told in evaluations)
    sets = dict(zip(_labels(evaluations), measured, strict=True))
    originals = {json.dumps(told["originals"]) for told in evaluations}
    if len(originals) == 1:
        sets = {ORIGINALS: evaluations[0]["originals"], **sets}
    same = {json.dumps([told["counts"], told["leakage"]["limit"]]) for told in evaluations}
    said = notes(evaluations[0]["counts"], evaluations[0]["leakage"]) if len(same) == 1 else []
    counts = ", ".join(f"{told['counts']['images']:,}" for told in evaluations)
    return sets_table("Images that were measured", sets, [*said, f"Images of each set: {counts}."])


def _columns(told: dict[str, Any]) -> dict[str, Any]:
    return {told["method"]: told["measures"], ORIGINALS: told["originals"]}


def _labels(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """The methods' names, with as much besides as tells all of them apart."""

    def told(one: dict[str, Any], *fields: str) -> str:
        short = "/".join(Path(one["path"]).parts[-2:])
        words = {**one, "short": short, "seed": f"seed {one.get('seed', '?')}"}
        return f"{one['method']} ({', '.join(words[name] for name in fields)})"

    labels = [one["method"] for one in evaluations]
    for fields in (("short",), ("path",), ("path", "dataset"), ("path", "dataset", "seed")):
        if len(set(labels)) == len(labels):
            return labels
        labels = [told(one, *fields) for one in evaluations]
    if len(set(labels)) == len(labels):
        return labels
    return [told(one, "path", "fingerprint") for one in evaluations]
