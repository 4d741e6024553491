"""Do people find that the images still show the same thing, and that they differ?

The paper's human evaluation. Ratings are collected by `python -m sgid.human_study`; nobody's
are made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from experiments.paper.arms import GENERATIVE, SGID
from experiments.paper.grid import Sweep
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.config.compose import compose
from sgid.human_study.study import FILE, Study
from sgid.reporting.format import command
from sgid.reporting.results import Result

TITLE = "Human evaluation"
METHODS = [*GENERATIVE, *SGID]


def grid(scale: Scale) -> list[Sweep]:
    return [scale.sweep(METHODS, {"dataset": [scale.dataset], "seed": ["0"]})]


def render(results: Sequence[Result]) -> Page:
    """The ratings of the study that lies where `build` puts it; without any, how to get some."""
    if not results:
        return Page()
    asked = [
        word
        for word in results[0].overrides
        if not word.startswith(("aug=", "evaluation.", "backbone="))
    ]
    config = compose(asked)
    folder = Path(config.paths.artifacts) / "human" / config.dataset.name
    if (folder / FILE).is_file():
        from sgid.human_study.results import shown

        rated, made = Study(folder).about()["stores"], _stores(results)
        if rated != made:
            return Page(
                findings=(
                    f"The study in `{folder}` is of other images: {_named(rated, made)}. "
                    "Its ratings are not shown as this experiment's: build one of these images.",
                )
            )
        if (found := shown(folder)) is not None:
            tables, figure = found
            return Page(
                tables=tables,
                figures={"ratings": figure},
                captions={"ratings": "Mean ratings and 95 % intervals over the originals."},
            )
    methods = ",".join(name.strip("[]") for name in METHODS)
    build = command([*asked, f"aug=[{methods}]"])
    build = build.replace("run.py", "-m sgid.human_study build", 1)
    return Page(
        findings=(
            "Nobody has rated these images yet. The questionnaire is made by "
            f"`{build}`, and shown by `python -m sgid.human_study serve {folder}`.",
        )
    )


def _stores(results: Sequence[Result]) -> dict[str, str]:
    """The names of the stores that the runs trained on, by method."""
    return {made.method: PurePath(made.path).name for one in results for made in one.generated}


def _named(rated: Mapping[str, str], made: Mapping[str, str]) -> str:
    """Sentences on the stores of a study that differ from those of the runs."""
    parts = []
    if more := [method for method in rated if method not in made]:
        parts.append(f"it has {', '.join(more)}, which no run trained on")
    if fewer := [method for method in made if method not in rated]:
        parts.append(f"it lacks {', '.join(fewer)}")
    if other := [name for name in rated if made.get(name, rated[name]) != rated[name]]:
        parts.append(f"{', '.join(other)} was generated with other options")
    return "; ".join(parts)
