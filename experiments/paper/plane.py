"""Do consistent and diverse images make the better classifier? (The claim of the paper's Figure 1.)

Every generative method by its semantic consistency and its diversity, accuracy as colour.
"""

from __future__ import annotations

from experiments.paper import consistency
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "Consistency and diversity"


def grid(scale: Scale) -> list[Sweep]:
    return [*consistency.grid(scale), scale.sweep(["[flip_crop]"])]
