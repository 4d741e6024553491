"""Do people find that the images still show the same thing, and that they differ?

The paper's human evaluation. Ratings are collected by `python -m sgid.evaluation.human`; nobody's
are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.paper.arms import GENERATIVE, SGID
from experiments.paper.grid import Sweep
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.compose import compose
from sgid.reporting.results import Result
from sgid.reporting.wording import command

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
    if (folder / "study.sqlite").is_file():
        from sgid.evaluation.human.results import shown

        if (found := shown(folder)) is not None:
            tables, figure = found
            return Page(
                tables=tables,
                figures={"ratings": figure},
                captions={"ratings": "Mean ratings and 95 % intervals over the originals."},
            )
    methods = ",".join(name.strip("[]") for name in METHODS)
    build = command([*asked, f"aug=[{methods}]"])
    build = build.replace("run.py", "-m sgid.evaluation.human build", 1)
    return Page(
        findings=(
            "Nobody has rated these images yet. The questionnaire is made by "
            f"`{build}`, and shown by `python -m sgid.evaluation.human serve {folder}`.",
        )
    )
