"""Do the augmentations keep the meaning of the same images? (The paper's Figure 4.)"""

from __future__ import annotations

from collections.abc import Sequence

from experiments import case_study
from experiments.paper.arms import SGID
from experiments.paper.grid import Sweep
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.config.compose import compose
from sgid.reporting.results import Result

TITLE = "Case study"


def grid(scale: Scale) -> list[Sweep]:
    return [scale.sweep(SGID, {"dataset": [scale.dataset], "seed": ["0"]})]


def render(results: Sequence[Result]) -> Page:
    """The figure, drawn again: a run keeps examples of its own methods alone."""
    if not results:
        return Page()
    asked = [word for word in results[0].overrides if not word.startswith(("aug=", "evaluation."))]
    config = compose(case_study.chosen(asked))
    return Page(
        figures={"methods": case_study.figure(config)},
        captions={
            "methods": "What a training sees of eight images with each augmentation, and the "
            f"first image that each generative method makes of them ({config.dataset.name}, "
            f"noise rate {config.noise_rate:g})."
        },
    )
