"""Strength of each image: img2img's share of the noise schedule, which the paper calls noise rate.

It is a number; a list, of which each image draws one; a range `{min, max}`, in which each draws
one; or a rule: a function from the similarities (N,) of all originals and the numbers (N,) of
training images of their classes to strengths (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgid.methods.guidance import linear

Rule: TypeAlias = "Callable[[NDArray, NDArray], NDArray[np.float64]]"
Strength: TypeAlias = "float | Sequence[float] | Mapping[str, float] | Rule"


def by_shots(
    similarities: ArrayLike, shots: ArrayLike, *, strengths: Mapping[int, float]
) -> NDArray[np.float64]:
    """Strengths by the number of training images of a class, as Real Guidance has them.

    Between two numbers that `strengths` names they are linear in the number's logarithm, and
    beyond them as at the ends.
    """
    named = sorted((int(count), strength) for count, strength in strengths.items())
    counts, values = zip(*named, strict=True)
    return np.interp(np.log2(shots), np.log2(counts), values)


def by_similarity(
    similarities: ArrayLike,
    shots: ArrayLike,
    *,
    min: float,
    max: float,
    quantiles: Sequence[float] = (0.05, 0.95),
) -> NDArray[np.float64]:
    """Strengths that rise with the caption's similarity, from `min` to `max`, as guidance does."""
    return linear(similarities, min=min, max=max, quantiles=quantiles)


def needs_similarity(strength: Strength) -> bool:
    """Whether a strength follows the similarity of captions."""
    return callable(strength) and getattr(strength, "func", strength) is by_similarity


def extremes(given: Any) -> list[float]:
    """All strengths that an entry of `conf/aug/` names: of a range or a rule, its bounds."""
    if isinstance(given, Mapping):
        lists = [value for key, value in given.items() if key != "quantiles"]
        return [one for value in lists for one in extremes(value)]
    if isinstance(given, list | tuple):
        return [one for value in given for one in extremes(value)]
    number = isinstance(given, int | float) and not isinstance(given, bool)
    return [given] if number else []
