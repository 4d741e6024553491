"""Does a generative method keep the meaning of its originals?

Mean CLIP cosine between generated images and their originals by class (the paper's Figure 3), and
all other measures of the images, a classifier's trained on real images among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from experiments.charts.classes import class_dots
from experiments.paper.arms import GENERATIVE, SGID, WITHOUT_A_PART
from experiments.paper.grid import Sweep
from experiments.paper.measures import by_method, estimate_text, measured
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.evaluation.statistics import mean_interval
from sgid.reporting.format import ABSENT
from sgid.reporting.image_metrics import SAID
from sgid.reporting.results import Result
from sgid.reporting.table import Cell, Table

TITLE = "Semantic consistency"


def grid(scale: Scale) -> list[Sweep]:
    return [scale.sweep([*GENERATIVE, *SGID, *WITHOUT_A_PART], classified=True)]


def render(results: Sequence[Result]) -> Page:
    tables, figures, captions, findings = {}, {}, {}, []
    datasets = by_method(results)
    for dataset, methods in datasets.items():
        mark = f"-{dataset}" if len(datasets) > 1 else ""
        tables[f"measures{mark}"] = _table(dataset, methods)
        # SGID without a part is in the table: so many marks could not be told apart.
        parts = {name.strip("[]") for name in WITHOUT_A_PART}
        series = {
            method: found
            for method, runs in methods.items()
            if method not in parts and (found := _classes(runs))
        }
        if series:
            figures[f"classes{mark}"] = class_dots(series, across="mean cosine, augmented–original")
            captions[f"classes{mark}"] = (
                f"Mean cosine of CLIP's embeddings of augmented images and their originals by "
                f"class of {dataset}, over seeds; SGID without a part is in the table."
            )
        findings += _findings(dataset, methods)
    return Page(tuple(findings), tables, figures, captions)


def _classes(runs: Sequence[Result]) -> dict[str, float]:
    """The mean over the stores of each class's cosine."""
    stores = {
        PurePath(run.generated[0].path).name: run.generated[0].cosine_per_class for run in runs
    }
    names = dict.fromkeys(name for store in stores.values() for name in store)
    return {
        name: mean_interval([store[name] for store in stores.values() if name in store]).value
        for name in names
    }


def _table(dataset: str, methods: Mapping[str, Sequence[Result]]) -> Table:
    """A row per method, a column per measure that some method has."""
    found = {
        method: {name: measured(runs, name) for name in SAID} for method, runs in methods.items()
    }
    names = [name for name in SAID if any(one[name].n for one in found.values())]
    rows = tuple(
        (
            Cell(method),
            Cell(str(max(estimate.n for estimate in measures.values()))),
            *(
                Cell(
                    estimate_text(measures[name], 2 if measures[name].value >= 10 else 4)
                    if measures[name].n
                    else ABSENT
                )
                for name in names
            ),
        )
        for method, measures in found.items()
    )
    heads = ("method", "stores", *(SAID[name].title for name in names))
    explained = tuple(f"{SAID[name].title}: {SAID[name].note}." for name in names)
    note = "Means over the stores of different seeds, ± the half-width of the 95 % t-interval."
    return Table(f"Generated images of {dataset}", heads, rows, (note, *explained))


def _findings(dataset: str, methods: Mapping[str, Sequence[Result]]) -> list[str]:
    found = []
    for name in ("cosine", "classifier_agreement", "label_agreement", "diversity"):
        ranked = sorted(
            (
                (one.value, method)
                for method, runs in methods.items()
                if (one := measured(runs, name)).n
            ),
            reverse=True,
        )
        if len(ranked) < 2:
            continue
        order = [method for _, method in ranked]
        text = f"{SAID[name].title} on {dataset}: {_with(ranked[0])} is highest"
        if "sgid" in order[1:]:
            index = order.index("sgid")
            text += f", {_with(ranked[index])} is number {index + 1} of {len(order)}"
        text += f"; {_with(ranked[-1])} is lowest"
        found.append(f"{text[:1].upper()}{text[1:]}.")
    return found


def _with(ranked: tuple[float, str]) -> str:
    return f"{ranked[1]} ({ranked[0]:.4g})"
