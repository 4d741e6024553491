"""Conditions beside the text: image prompts (IP-Adapter) and edges (ControlNet) of training images.

Both are taken of a training image: the original itself, or another one of the class that is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgid.methods.strength import Strength, extremes

if TYPE_CHECKING:
    from sgid.methods.method import Draw

OF = ("own", "same_class")

LARGEST = 2.0
"""The largest scale of a condition; 1 is what adapters are trained with."""


@dataclass(frozen=True)
class ImagePrompts:
    """The image prompts of a method.

    Args:
        of: `own`: the original; `same_class`: another training image of the class that is drawn,
            in turn; where there is none, the original.
        scale: the factor of the adapter's attention, as `sgid.methods.strength` has strengths: a
            number, a list, a range, or a rule.
    """

    of: str = "own"
    scale: Strength = 1.0

    def __post_init__(self) -> None:
        _check(self.of, self.scale)


@dataclass(frozen=True)
class Edges:
    """The edges that images are drawn along, by Canny's detector.

    Args:
        of: as for `ImagePrompts`.
        scale: the factor of what the ControlNet adds.
        low, high: thresholds of the gradient, as OpenCV has them: see `canny`.
    """

    of: str = "own"
    scale: float = 1.0
    low: float = 100
    high: float = 200

    def __post_init__(self) -> None:
        _check(self.of, self.scale)
        if not 0 <= self.low <= self.high:
            raise ValueError(f"low={self.low}, high={self.high}: must be at least 0, low first")


def _check(of: str, scale: Any) -> None:
    if of not in OF:
        raise ValueError(f"of={of}: unknown; one of {', '.join(OF)}")
    for one in [] if callable(scale) else extremes(scale) or [scale]:
        if not isinstance(one, int | float) or not 0 <= one <= LARGEST:
            raise ValueError(f"scale={one}: must be a number from 0 to {LARGEST:g}")


def whose(of: str, sample: int, members: Sequence[int], draw: Draw, purpose: str) -> int:
    """The training image whose condition an image of `sample` is drawn with.

    `members` are the images of the class that is drawn, and `purpose` is that of the draw.
    """
    others = [one for one in members if one != sample] if of == "same_class" else []
    return draw.turn(purpose, others) if others else sample


TAN_22 = 13573
"""tan(22.5°) * 2^15: directions are told apart in whole numbers, as OpenCV does."""


def canny(image: Image.Image, low: float, high: float) -> Image.Image:
    """Edges of an RGB image, as an image of mode L that is 255 on an edge, else 0 (Canny, 1986).

    As OpenCV's `Canny` of the same thresholds: Sobel's 3 x 3 derivatives of the channel with the
    largest |dx| + |dy|, thinned along one of four directions, and of what is above `low` all that
    touches what is above `high`.
    """
    from scipy import ndimage

    levels = np.asarray(image.convert("RGB"), np.int32)  # (H, W, 3)

    def derivative(axis: int) -> NDArray:
        smooth = ndimage.correlate1d(levels, [1, 2, 1], axis=1 - axis, mode="nearest")
        return ndimage.correlate1d(smooth, [-1, 0, 1], axis=axis, mode="nearest")

    dx, dy = derivative(1), derivative(0)
    channel = (abs(dx) + abs(dy)).argmax(2)[..., None]
    dx, dy = (np.take_along_axis(one, channel, 2)[..., 0] for one in (dx, dy))
    size = abs(dx) + abs(dy)  # (H, W)
    likely = _thinned(dx, dy, size) & (size > int(low))
    labelled: Any = ndimage.label(likely, np.ones((3, 3)))
    parts = labelled[0]  # (H, W): the number of the part that touches
    strong = np.unique(parts[likely & (size > int(high))])
    return Image.fromarray(np.where(np.isin(parts, strong) & likely, 255, 0).astype(np.uint8))


def _thinned(dx: NDArray, dy: NDArray, size: NDArray) -> NDArray[np.bool_]:
    """(H, W): whether a gradient is the largest of the three along its direction."""
    padded = np.pad(size, 1)
    height, width = size.shape

    def beside(down: int, right: int) -> NDArray:
        return padded[1 + down :, 1 + right :][:height, :width]

    across, along = abs(dx) * TAN_22, abs(dy) * 2**15
    steep = across + abs(dx) * 2**16  # tan(67.5°) = tan(22.5°) + 2
    left_right = (size > beside(0, -1)) & (size >= beside(0, 1))
    up_down = (size > beside(-1, 0)) & (size >= beside(1, 0))
    falling = (size > beside(-1, -1)) & (size > beside(1, 1))
    rising = (size > beside(-1, 1)) & (size > beside(1, -1))
    diagonal = np.where((dx ^ dy) < 0, rising, falling)
    return np.where(along < across, left_right, np.where(along > steep, up_down, diagonal))
