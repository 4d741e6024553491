"""How much may be re-drawn, and how hard may the text steer?

Noise rate × guidance scale, the same scale for all images: accuracy, semantic consistency and
diversity, and what becomes of one image (the paper's Figure 5).
"""

from __future__ import annotations

from experiments.paper.arms import SGID
from experiments.paper.grid import Sweep
from experiments.paper.scales import Scale

TITLE = "Noise rate and guidance scale"
NOISE_RATES = ["0.3", "0.5", "0.7", "0.9"]
SCALES = ["1.5", "3.0", "5.0", "10.0"]


def grid(scale: Scale) -> list[Sweep]:
    few = {"dataset": [scale.dataset], "dataset.shots": [scale.few_shots]}
    return [
        scale.sweep(
            SGID, **few, noise_rate=NOISE_RATES, guidance=["fixed"], **{"guidance.scale": SCALES}
        )
    ]
