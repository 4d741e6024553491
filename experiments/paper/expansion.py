"""How many images of each original are worth making?"""

from __future__ import annotations

from experiments.paper.arms import SGID
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "Expansion"
RATIOS = ["1", "2", "5", "10"]


def grid(scale: Scale) -> list[Sweep]:
    few = {"dataset": [scale.dataset], "dataset.shots": [scale.few_shots]}
    return [
        scale.sweep(["[flip_crop]"], **few),
        scale.sweep(SGID, **few, expansion=RATIOS),
    ]
