"""DALDA: the scale of an image prompt by how well CLIP knows the original (arXiv 2409.16949).

The less probable CLIP finds the class of an original, the more its image counts beside the text;
where CLIP is sure, the text may lead further away. The scale of each image is drawn anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgid.methods.method import Draw
from sgid.methods.probe import embed_all, softmax
from sgid.records import Request
from sgid.runtime.files import atomic_path

if TYPE_CHECKING:
    from sgid.data.image_set import ImageSet
    from sgid.methods.requests import RequestPlan

FILE = "class_probabilities.npy"

SURE = 0.3
"""The probability up to which an original counts as one that CLIP does not know."""


def class_probabilities(
    images: ImageSet, phrases: Sequence[str], models: Any, folder: Path, *, seed: int
) -> None:
    """Leave (N,): CLIP's probability of each training image's own class, by the class names."""
    texts = models.scorer.embed_texts([f"a photo of a {phrase}" for phrase in phrases])
    logits = models.scorer.logit_scale * embed_all(images, models.scorer) @ texts.T
    own = softmax(logits)[np.arange(len(images)), np.asarray(images.labels)]
    with atomic_path(folder / FILE) as partial, partial.open("wb") as stream:
        np.save(stream, own)


def scale_by_clip(request: Request, plan: RequestPlan, draw: Draw) -> Request:
    """Draw the scale of the image prompt: see `scale`."""
    assert plan.artifact is not None, "prepare: class_probabilities comes before"
    assert request.image_prompt is not None, "the scale is that of an image_prompt"
    described = request.described
    probability = float(_load(plan.artifact / FILE)[plan.index[described.key]])
    drawn = scale(
        probability, int(plan.counts[described.label]), draw.uniform("image prompt scale")
    )
    return replace(request, image_prompt=replace(request.image_prompt, scale=drawn))


def scale(probability: float, shots: int, share: float) -> float:
    """The quantile `share` of a normal distribution that is cut off at both ends.

    With p the probability of the class: of p up to .3 the mean is .7 + .2 (1 - p), within .7 and
    .9; above it is .1 + .3 (1 - p), within .1 and .4 + .1 sqrt(shots). The deviation before the
    cut is .05 times the shots.
    """
    from scipy.stats import truncnorm

    if probability <= SURE:
        mean, low, high = 0.7 + 0.2 * (1 - probability), 0.7, 0.9
    else:
        mean, low, high = 0.1 + 0.3 * (1 - probability), 0.1, 0.4 + 0.1 * shots**0.5
    deviation = 0.05 * shots
    ends = (low - mean) / deviation, (high - mean) / deviation
    return float(truncnorm.ppf(share, *ends, loc=mean, scale=deviation))


@lru_cache(maxsize=8)
def _load(file: Path) -> NDArray[np.float64]:
    return np.load(file)
