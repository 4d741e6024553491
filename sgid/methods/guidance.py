"""The guidance scale that follows the similarity: step 2's knob in SGID (Li et al., AAAI 2024).

The paper says that the guidance scale is based on the caption's similarity to the image; the
formula is ours. All maps are pure functions of the similarities of the whole training set, since
the linear ones calibrate themselves on its quantiles: CLIP models differ in what a high cosine is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Guidance = Callable[..., NDArray[np.float64]]
"""From the similarities of a training set to as many guidance scales."""


def linear(
    similarities: ArrayLike, *, min: float, max: float, quantiles: Sequence[float] = (0.05, 0.95)
) -> NDArray[np.float64]:
    """g = min + (max - min) * clip((s - s_lo) / (s_hi - s_lo), 0, 1), one per similarity.

    `s_lo` and `s_hi` are the two `quantiles` of `similarities`. The better the caption fits the
    image, the more the text may steer. Equal similarities all get the middle.
    """
    return min + (max - min) * _position(similarities, quantiles)


def inverse(
    similarities: ArrayLike, *, min: float, max: float, quantiles: Sequence[float] = (0.05, 0.95)
) -> NDArray[np.float64]:
    """`linear` turned round: the better the caption fits, the closer to `min`."""
    return max - (max - min) * _position(similarities, quantiles)


def fixed(similarities: ArrayLike, *, scale: float) -> NDArray[np.float64]:
    """The same `scale` for every image."""
    return np.full(np.shape(similarities), float(scale))


def averaged(similarities: ArrayLike, *, of: Guidance) -> NDArray[np.float64]:
    """The mean of the map `of` for every image: as strong as `of`, but blind to the similarity."""
    scales = of(similarities)
    return np.full(scales.shape, scales.mean() if scales.size else 0.0)


def follows_similarity(guidance: Guidance) -> bool:
    """Whether a map, or a `functools.partial` of it, looks at the similarities at all."""
    return getattr(guidance, "func", guidance) is not fixed


def _position(similarities: ArrayLike, quantiles: Sequence[float]) -> NDArray[np.float64]:
    """Position of each similarity between the two quantiles, in [0, 1]."""
    s = np.asarray(similarities, dtype=np.float64)
    if np.isnan(s).any():
        raise ValueError(
            "this guidance map needs the similarity of every caption; some are missing"
        )
    low, high = np.quantile(s, quantiles)
    if high <= low:
        return np.full(s.shape, 0.5)
    return np.clip((s - low) / (high - low), 0.0, 1.0)
