"""Which augmentation gives the best classifier, and by how much does SGID lead the best baseline?

The paper's main table: datasets × three backbones × all augmentations.
"""

from __future__ import annotations

from experiments.paper.arms import BASE, GENERATIVE, PERTURBATIONS, SGID
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "All augmentations"


def grid(scale: Scale) -> list[Sweep]:
    augmentations = [*BASE, *PERTURBATIONS, *GENERATIVE, *SGID]
    return [scale.sweep(augmentations, backbone=scale.backbones)]
