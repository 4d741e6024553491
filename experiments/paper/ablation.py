"""Which of SGID's parts does the work: the label, the caption, or guidance by similarity?

Each is left out in turn; the caption is also chosen at random instead of by similarity.
"""

from __future__ import annotations

from experiments.paper.arms import SGID, WITHOUT_A_PART
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "Parts of SGID"


def grid(scale: Scale) -> list[Sweep]:
    arms = ["[flip_crop]", *SGID, *WITHOUT_A_PART, "[img2img_plain]"]
    return [scale.sweep(arms, seed=scale.many_seeds)]
