"""How much of an original's meaning does each generative method keep?

Mean CLIP cosine between generated images and their originals by class (the paper's Figure 3), and
all other measures of the images, a classifier's trained on real images among them.
"""

from __future__ import annotations

from experiments.paper.arms import GENERATIVE, SGID, WITHOUT_A_PART
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "Semantic consistency"


def grid(scale: Scale) -> list[Sweep]:
    return [scale.sweep([*GENERATIVE, *SGID, *WITHOUT_A_PART], judged=True)]
