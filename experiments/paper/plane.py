"""Do consistent and diverse images make the better classifier? (The claim of the paper's Figure 1.)

Every generative method by its semantic consistency and its diversity, accuracy as colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.charts.plane import Point, plane
from experiments.paper import consistency
from experiments.paper.contrasts import top1
from experiments.paper.grid import Sweep
from experiments.paper.measures import by_method, measured, rank_correlation
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.reporting.image_metrics import SAID
from sgid.reporting.results import Result
from sgid.reporting.table import Cell, Table

TITLE = "Consistency and diversity"


def grid(scale: Scale) -> list[Sweep]:
    return [*consistency.grid(scale), scale.sweep(["[flip_crop]"])]


def render(results: Sequence[Result]) -> Page:
    tables, figures, captions, findings = {}, {}, {}, []
    datasets = by_method(results)
    for dataset, methods in datasets.items():
        points = {
            method: Point(x.value, y.value, top1({run.seed: run for run in runs}).value)
            for method, runs in methods.items()
            if (x := measured(runs, "cosine")).n and (y := measured(runs, "diversity")).n
        }
        if not points:
            continue
        mark = f"-{dataset}" if len(datasets) > 1 else ""
        figures[f"plane{mark}"] = plane(
            points,
            across="semantic consistency (cosine to original)",
            up="diversity (1 − cosine among an original's images)",
            colour="test top-1 (%)",
        )
        captions[f"plane{mark}"] = (
            f"Every generative method on {dataset} by the consistency and the diversity of its "
            "images; the colour is the accuracy of the classifier trained on them."
        )
        tables[f"plane{mark}"] = _table(dataset, points)
        findings += _findings(dataset, points)
    return Page(tuple(findings), tables, figures, captions)


def _table(dataset: str, points: Mapping[str, Point]) -> Table:
    heads = ("method", SAID["cosine"].title, SAID["diversity"].title, "test top-1 (%)")
    best = sorted(points.items(), key=lambda item: -item[1].value)
    rows = tuple(
        tuple(map(Cell, (name, f"{one.x:.4f}", f"{one.y:.4f}", f"{one.value:.2f}")))
        for name, one in best
    )
    note = "Means over seeds, the most accurate method first. Nothing here is tested."
    return Table(f"Consistency, diversity and accuracy on {dataset}", heads, rows, (note,))


def _findings(dataset: str, points: Mapping[str, Point]) -> list[str]:
    axes = {
        "cosine": [one.x for one in points.values()],
        "diversity": [one.y for one in points.values()],
    }
    accuracy = [one.value for one in points.values()]
    sentences = []
    for name, values in axes.items():
        pairs = list(zip(accuracy, values, strict=True))
        if sentence := rank_correlation(pairs, SAID[name].title, f"methods on {dataset}"):
            sentences.append(sentence)
    if "sgid" in points:
        ours = points["sgid"]
        both = [
            name
            for name, one in points.items()
            if name != "sgid" and one.x >= ours.x and one.y >= ours.y
        ]
        sentences.append(
            f"On {dataset}, more consistent and more diverse than sgid at once: "
            f"{', '.join(both) or 'no other method'}."
        )
    return sentences
