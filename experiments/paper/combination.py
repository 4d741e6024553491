"""Does SGID still help beneath an augmentation that already helps?

Each perturbation alone and on top of SGID's images.
"""

from __future__ import annotations

from experiments.paper.arms import PERTURBATIONS
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "With other augmentations"


def grid(scale: Scale) -> list[Sweep]:
    combined = [f"[sgid,{name.strip('[]')}]" for name in PERTURBATIONS]
    return [scale.sweep(["[flip_crop]", "[sgid]", *PERTURBATIONS, *combined])]
