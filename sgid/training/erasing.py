"""Augmentations that hide a part of each image: Cutout, Random Erasing and GridMask.

Each is called with a PIL RGB image and gives a new one of the same size. Lengths are shares of the
shorter side, so that a setting means the same at 32 px and at 224. `fill` is an RGB colour from 0
to 255; the papers write zeros after normalisation, which is the mean colour before it. All that is
random is drawn from torch's global generator, which the data module seeds for every epoch. A
setting that is out of range raises `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from PIL import Image


@final
class Cutout:
    """Hide one square of a fixed size in every image (DeVries & Taylor, 2017).

    Its centre is any pixel, so that the image's border may cut the square, as in the paper;
    torchvision's `RandomErasing` never lets it.

    Args:
        side: of the square, as a share of the image's shorter side.
    """

    def __init__(self, *, side: float, fill: Sequence[int]) -> None:
        _demand("side", side, 0 < side <= 1, "above 0, at most 1")
        self.side = side
        self.fill = _colour(fill)

    def __call__(self, image: Image.Image) -> Image.Image:
        side = max(1, round(self.side * min(image.size)))
        left, top = (int(torch.randint(length, ())) - side // 2 for length in image.size)
        image = image.copy()  # the one that came may be in a cache
        image.paste(self.fill, (left, top, left + side, top + side))
        return image


@final
class RandomErasing:
    """Fill a rectangle with random pixels (Zhong et al., 2020, algorithm 1).

    torchvision's draws them from a standard normal distribution, for normalised tensors: in a
    picture that is nearly black and nearly white. Here they are uniform, as in the paper.

    Args:
        probability: share of the images that are changed.
        area: smallest and largest, as a share of the image's.
        aspect: smallest and largest height / width.
    """

    def __init__(
        self, *, probability: float, area: Sequence[float], aspect: Sequence[float]
    ) -> None:
        _demand("probability", probability, 0 <= probability <= 1, "from 0 to 1")
        self.probability = probability
        self.area = least, most = _pair("area", area)
        fits = least <= 0.5 and most <= 1  # more would hardly ever find a place
        _demand("area", (least, most), fits, "at most 0.5 and at most 1")
        self.aspect = flattest, tallest = _pair("aspect", aspect)
        _demand("aspect", (flattest, tallest), flattest <= 1 <= tallest, "a range that 1 is in")

    def __call__(self, image: Image.Image) -> Image.Image:
        if torch.rand(()) >= self.probability:
            return image
        while True:  # until the rectangle lies within the image
            area, aspect, x, y = torch.rand(4).tolist()
            area = _between(self.area, area) * image.width * image.height
            aspect = _between(self.aspect, aspect)
            width = max(1, round(math.sqrt(area / aspect)))
            height = max(1, round(math.sqrt(area * aspect)))
            left, top = int(x * image.width), int(y * image.height)
            if left + width <= image.width and top + height <= image.height:
                break
        noise = torch.randint(256, (height, width, 3), dtype=torch.uint8)
        image = image.copy()
        image.paste(Image.fromarray(noise.numpy()), (left, top))
        return image


@final
class GridMask:
    """Hide a grid of squares (Chen et al., 2020).

    The paper lets the probability grow over the first epochs; here it is the same in all.

    Args:
        probability: share of the images that are changed.
        period: smallest and largest distance of two squares, as a share of the shorter side (d).
        keep: share of a period that lies between two squares (r), so that 1 - (1 - r)^2 of the
            pixels stay.
        rotation: largest angle, in degrees, that the grid is turned by.
    """

    def __init__(
        self,
        *,
        probability: float,
        period: Sequence[float],
        keep: float,
        rotation: float,
        fill: Sequence[int],
    ) -> None:
        _demand("probability", probability, 0 <= probability <= 1, "from 0 to 1")
        _demand("keep", keep, 0 < keep < 1, "above 0, below 1")
        _demand("rotation", rotation, 0 <= rotation <= 360, "from 0 to 360")
        self.probability = probability
        self.period = least, most = _pair("period", period)
        _demand("period", (least, most), most <= 1, "at most 1")
        self.keep = keep
        self.rotation = rotation
        self.fill = _colour(fill)

    def __call__(self, image: Image.Image) -> Image.Image:
        if torch.rand(()) >= self.probability:
            return image
        least, most = (max(2, round(share * min(image.size))) for share in self.period)
        period = int(torch.randint(least, most + 1, ()))
        side = min(max(1, round((1 - self.keep) * period)), period - 1)
        shift_x, shift_y = torch.randint(period, (2,)).tolist()
        angle = math.radians(self.rotation * float(torch.rand(())))
        x = np.arange(image.width, dtype=np.float32)[None, :]
        y = np.arange(image.height, dtype=np.float32)[:, None]
        if angle:
            cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
            x, y = cos * x + sin * y, cos * y - sin * x  # (H, W) each
        hidden = ((x + shift_x) % period < side) & ((y + shift_y) % period < side)  # (H, W)
        image = image.copy()
        image.paste(self.fill, mask=Image.fromarray(hidden))
        return image


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * share


def _pair(name: str, values: Sequence[float]) -> tuple[float, float]:
    pair = tuple(values)
    _demand(name, pair, len(pair) == 2 and 0 < pair[0] <= pair[1], "two numbers above 0, ascending")
    return pair[0], pair[1]


def _colour(fill: Sequence[int]) -> tuple[int, int, int]:
    colour = tuple(fill)
    levels = all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
    _demand("fill", colour, levels and len(colour) == 3, "red, green and blue, from 0 to 255")
    return colour[0], colour[1], colour[2]


def _demand(option: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"{option}={value}: must be {rule}")
