"""Metrics of generated images as text, tables and pages, for runs and for images of any origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.reporting.format import ABSENT
from sgid.reporting.html import classifier_text, render, shown_pairs
from sgid.reporting.results import EVALUATION, read_pairs
from sgid.reporting.table import Cell, Table
from sgid.runtime.files import write_atomic

if TYPE_CHECKING:
    from rich.console import Console


Measures = Mapping[str, float | None]

ORIGINALS = "the originals"


@dataclass(frozen=True)
class MetricFormat:
    """Title, number format and explanation of a metric."""

    title: str
    form: str
    note: str


SAID: dict[str, MetricFormat] = {
    "cosine": MetricFormat(
        "cosine to original", "{:.3f}", "mean over augmented–original pairs, by CLIP"
    ),
    "label_agreement": MetricFormat(
        "label agreement, zero-shot", "{:.1f} %", "images whose nearest class name is their label"
    ),
    "classifier_agreement": MetricFormat(
        "label agreement, classifier",
        "{:.1f} %",
        "images that a classifier trained on real images gives their label",
    ),
    "own_original_nearest": MetricFormat(
        "own original nearest", "{:.1f} %", "images more like their own original than any other"
    ),
    "diversity": MetricFormat(
        "diversity per original", "{:.3f}", "mean 1 − cosine among the images of one original"
    ),
    "class_diversity": MetricFormat(
        "diversity per class", "{:.3f}", "mean 1 − cosine among the images of one class"
    ),
    "lpips": MetricFormat(
        "LPIPS per original", "{:.3f}", "the same by LPIPS, of 500 pairs at most"
    ),
    "vendi": MetricFormat("Vendi score", "{:.2f}", "how many different images there are in effect"),
    "density": MetricFormat(
        "density", "{:.3f}", "around 1 where images lie as real ones do, below it outside"
    ),
    "coverage": MetricFormat(
        "coverage", "{:.3f}", "share of held-out real images with one near them"
    ),
    "fid": MetricFormat(
        "FID, of CLIP", "{:.4f}", "distance from held-out real images: lower is nearer"
    ),
    "kid": MetricFormat(
        "KID, of CLIP", "{:.4f}", "the same by a kernel, without bias by the count"
    ),
    "train_copies": MetricFormat(
        "near-copies of originals", "{:,.0f}", "as near as the limit below says"
    ),
    "test_copies": MetricFormat(
        "near-copies of test images", "{:,.0f}", "as near as the limit below says"
    ),
    "test_copies_expected": MetricFormat(
        "such near-copies by chance", "{:,.1f}", "in as many new real images"
    ),
    "test_duplicates": MetricFormat("exact copies of test images", "{:,.0f}", "the same pixels"),
}


def measure_text(name: str, value: float | None) -> str:
    """`87.7 %`, or a dash for what was not measured."""
    text = ABSENT if value is None else SAID[name].form.format(value)
    return text.replace("-", "−")


def measure_rows(columns: Mapping[str, Measures]) -> list[dict[str, Any]]:
    """A row for each measure that some column has: its title, its note, and a text per column."""
    return [
        {
            "title": said.title,
            "note": said.note,
            "texts": [measure_text(name, column.get(name)) for column in columns.values()],
        }
        for name, said in SAID.items()
        if any(column.get(name) is not None for column in columns.values())
    ]


def measures_table(title: str, sets: Mapping[str, Measures], notes: Sequence[str] = ()) -> Table:
    """Rows are the metrics that some set of images has, columns the sets."""
    rows = tuple(
        (Cell(row["title"]), *(Cell(text) for text in row["texts"])) for row in measure_rows(sets)
    )
    return Table(title, ("metric", *sets), rows, tuple(notes))


def notes(counts: Mapping[str, int], leakage: Mapping[str, Any]) -> list[str]:
    """Sentences below the metrics: counts of images, and the definition of a near-copy."""
    sets = (counts.get("images", 0), counts["originals"], counts["held_out"])
    most = counts["at_most"]
    sampled = (
        f"Of sets of more than {most:,} images, {most:,} drawn at random are compared with others: "
        "for density, coverage, KID, the nearest original and all counts of copies, which are "
        "counts of these alone."
    )
    return [
        *([sampled] if max(sets) > most else []),
        "By the CLIP of the run. Density, coverage, FID and KID compare with "
        f"{counts['held_out']:,} held-out real images (the validation part), which nothing was "
        f"generated from; “{ORIGINALS}” are {counts['originals']:,} real images. FID, coverage and "
        "the Vendi score depend on how many images there are: compare them at like counts alone.",
        f"A near-copy is at most {leakage['limit']:.4f} (root mean square of 32 px thumbnails, "
        f"full scale 1) from an image: as near to the {counts['test']:,} test images as only "
        f"{100 * leakage['share']:.2g} % of the held-out real images are. That many are near by "
        "chance; more are a sign of leakage. Of test images, the pictures alone are read for this.",
    ]


def load_evaluation(folder: Path) -> dict[str, Any] | None:
    """The result of `stage=evaluate evaluation.images=...` in `folder`, or `None`."""
    path = folder / EVALUATION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_page(folder: Path) -> Path:
    """Write `evaluation.html` from what lies in `folder`."""
    summary = load_evaluation(folder)
    assert summary is not None
    columns = _columns(summary)
    counts = summary["counts"]
    sizes = [f"{counts['images']:,}", f"{counts['originals']:,}"]
    per_class = summary["cosine_per_class"]
    page = render(
        "evaluation.html.j2",
        title=f"{summary['method']}, measured against {summary['dataset']}",
        subtitle=f"{summary['path']}, finished {summary['finished'][:16].replace('T', ' ')} UTC",
        notes=summary["notes"],
        headers=list(columns),
        rows=[{"title": "images", "note": "", "texts": sizes}, *measure_rows(columns)],
        measure_notes=notes(counts, summary["leakage"]),
        classifier=classifier_text(summary["classifier"]),
        classes=[(name, f"{cosine:.3f}") for name, cosine in per_class.items()],
        pairs=shown_pairs(read_pairs(folder)),
        fingerprint=summary["fingerprint"],
    )
    path = folder / "evaluation.html"
    write_atomic(path, page.encode())
    return path


def print_evaluation(folder: Path, console: Console) -> None:
    """The measures as a table in the terminal."""
    summary = load_evaluation(folder)
    assert summary is not None
    said = [*summary["notes"], *notes(summary["counts"], summary["leakage"])]
    title = f"{summary['path']}: {summary['counts']['images']:,} images"
    measures_table(title, _columns(summary), said).print(console)


def evaluations_table(evaluations: Sequence[dict[str, Any]]) -> Table:
    """A column for each set of images, and one for the originals where all have the same."""
    measured = (summary["measures"] for summary in evaluations)
    sets = dict(zip(_labels(evaluations), measured, strict=True))
    originals = {json.dumps(summary["originals"]) for summary in evaluations}
    if len(originals) == 1:
        sets = {ORIGINALS: evaluations[0]["originals"], **sets}
    same = {json.dumps([summary["counts"], summary["leakage"]["limit"]]) for summary in evaluations}
    said = notes(evaluations[0]["counts"], evaluations[0]["leakage"]) if len(same) == 1 else []
    counts = ", ".join(f"{summary['counts']['images']:,}" for summary in evaluations)
    return measures_table("Evaluated images", sets, [*said, f"Images of each set: {counts}."])


def _columns(summary: dict[str, Any]) -> dict[str, Any]:
    return {summary["method"]: summary["measures"], ORIGINALS: summary["originals"]}


def _labels(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """The methods' names, with as much besides as tells all of them apart."""

    def label(one: dict[str, Any], *fields: str) -> str:
        short = "/".join(Path(one["path"]).parts[-2:])
        words = {**one, "short": short, "seed": f"seed {one.get('seed', '?')}"}
        return f"{one['method']} ({', '.join(words[name] for name in fields)})"

    labels = [one["method"] for one in evaluations]
    for fields in (("short",), ("path",), ("path", "dataset"), ("path", "dataset", "seed")):
        if len(set(labels)) == len(labels):
            return labels
        labels = [label(one, *fields) for one in evaluations]
    if len(set(labels)) == len(labels):
        return labels
    return [label(one, "path", "fingerprint") for one in evaluations]
