"""Does generating help more, the fewer real images there are?"""

from __future__ import annotations

from experiments.paper.arms import SGID
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "Number of real images"


def grid(scale: Scale) -> list[Sweep]:
    arms = ["[flip_crop]", "[randaugment]", "[text2img_label]", *SGID]
    return [scale.sweep(arms, **{"dataset": [scale.dataset], "dataset.shots": scale.shots})]
