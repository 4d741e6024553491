"""Which generated images are trained on: judged by CLIP, as ALIA and others do after generation.

A filter is a pure function of `Judged`; it drops nothing from a store, only from a training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgid.evaluation.consistency import Judged


def label(judged: Judged) -> NDArray[np.bool_]:
    """Keep an image whose label is CLIP's first guess among all classes."""
    return judged.nearest == judged.labels


def band(judged: Judged, *, min: float, max: float) -> NDArray[np.bool_]:
    """Keep an image whose cosine to its original is within `min` and `max`, both included."""
    return (judged.cosines >= min) & (judged.cosines <= max)
