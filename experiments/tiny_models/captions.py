"""Captions by rules over measured attributes of an image, as weak as the web's alt text.

The rules see pixels and nothing of the class but the noun. The noun is exact in about 60% of the
captions, coarse or missing in 30%, and wrong in 10%; attributes are left out at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.tiny_models.images import CLASS_NAMES

COARSE = ("top", "clothes", "top", "clothes", "top", "shoe", "top", "shoe", "item", "shoe")
NOUNS = {*CLASS_NAMES, *COARSE}
EXACT_SHARE, COARSE_SHARE, MISSING_SHARE = 0.6, 0.2, 0.1  # the rest is wrong

BRIGHTNESS = ("dark", "grey", "white")
TEXTURE = ("plain", "patterned", "striped")
SHAPE = ("wide", "boxy", "narrow")
DETAIL = (
    "with long sleeves", "with short sleeves", "without sleeves", "with two legs",
    "with a thick sole", "with a heel", "with straps", "with a handle", "with a high shaft",
    "with straight sides",
)  # fmt: skip
TEMPLATES = (
    "a {what}", "a photo of a {what}", "{what}", "a photo of a {noun}, a {what}", "{noun}, {what}",
    "a photo of a {noun}", "this {what}",
)  # fmt: skip


@dataclass(frozen=True)
class Attributes:
    """Indices into `BRIGHTNESS`, `TEXTURE`, `SHAPE` and `DETAIL`, one per image."""

    brightness: NDArray[np.int64]
    texture: NDArray[np.int64]
    shape: NDArray[np.int64]
    detail: NDArray[np.int64]


def measure(images: NDArray[np.uint8]) -> Attributes:
    """Attributes of grey images (N, 32, 32)."""
    grey = images.astype(np.float32)
    inside = images > 20
    area = inside.sum((1, 2)).clip(1)
    rows, columns = inside.any(2), inside.any(1)  # (N, 32)
    height, width = rows.sum(1).clip(1), columns.sum(1).clip(1)
    top = rows.argmax(1)

    level = (grey * inside).sum((1, 2)) / area
    brightness = np.digitize(level, [95, 165])

    # Texture is looked for within the outline: two pixels from the edge.
    core = inside.copy()
    for _ in range(2):
        core[:, 1:-1, 1:-1] &= (
            core[:, :-2, 1:-1] & core[:, 2:, 1:-1] & core[:, 1:-1, :-2] & core[:, 1:-1, 2:]
        )
    down, over = (_roughness(grey, core, axis) for axis in (1, 2))
    texture = np.where(down + over > 36, 1, 0)
    texture[(down > 2.0 * over) & (down > 16)] = 2

    aspect = width / height
    shape = np.digitize(aspect, [0.62, 1.15])
    shape = 2 - shape  # narrow is low, wide is high
    detail = _detail(inside, top, height, aspect, area / (width * height))
    return Attributes(brightness, texture, shape, detail)


def _detail(inside, top, height, aspect, fill) -> NDArray[np.int64]:
    """What stands out, by where the outline has mass and where it has gaps."""
    detail = np.zeros(len(inside), np.int64)

    def share(image: int, low: float, high: float, columns: slice) -> float:
        """Filled share of a band of rows, given as shares of the object's height."""
        start = int(top[image] + low * height[image])
        stop = max(start + 1, int(top[image] + high * height[image]))
        return float(inside[image, start:stop, columns].mean())

    left, right, centre = slice(2, 9), slice(23, 30), range(13, 19)
    for i in range(len(inside)):
        gap = min(share(i, 0.6, 0.95, slice(c, c + 1)) for c in centre)
        top_left, top_right = share(i, 0.0, 0.25, left), share(i, 0.0, 0.25, right)
        hollow = min(share(i, 0.88, 1.0, slice(c, c + 1)) for c in range(10, 22)) < 0.2
        handle = min(share(i, low / 100, low / 100 + 0.06, slice(14, 18)) for low in (12, 20, 28))
        if 0.8 < aspect[i] < 1.6 and top_left < 0.1 and top_right > 0.25:
            name = "with a heel" if hollow else "with a high shaft"
        elif aspect[i] > 1.15 and fill[i] < 0.52:
            name = "with straps"
        elif aspect[i] > 1.15 and fill[i] < 0.8:
            name = "with a heel" if hollow else "with a thick sole"
        elif aspect[i] > 0.7 and handle < 0.1:
            name = "with a handle"
        elif aspect[i] > 1.15 or fill[i] > 0.93:
            name = "with straight sides"
        elif gap < 0.35 and aspect[i] < 0.8:
            name = "with two legs"
        elif aspect[i] < 0.62:
            name = "without sleeves"
        elif share(i, 0.55, 0.85, left) + share(i, 0.55, 0.85, right) > 0.45:
            name = "with long sleeves"
        elif share(i, 0.1, 0.4, left) + share(i, 0.1, 0.4, right) > 0.35:
            name = "with short sleeves"
        else:
            name = "without sleeves"
        detail[i] = DETAIL.index(name)
    return detail


def _roughness(grey, core, axis: int) -> NDArray:
    """Mean absolute grey-level difference of neighbours along an axis, within `core`."""
    both = np.delete(core, 0, axis) & np.delete(core, -1, axis)
    return (np.abs(np.diff(grey, axis=axis)) * both).sum((1, 2)) / both.sum((1, 2)).clip(1)


def caption(
    attributes: Attributes, image: int, label: int, rng: np.random.Generator, *, clean: bool = False
) -> str:
    """A random caption of one image; `clean` always gives the exact noun."""
    noun = CLASS_NAMES[label] if clean else weak_noun(label, rng)
    words = [
        BRIGHTNESS[attributes.brightness[image]] if rng.random() < 0.75 else "",
        SHAPE[attributes.shape[image]] if rng.random() < 0.35 else "",
        TEXTURE[attributes.texture[image]] if rng.random() < 0.7 else "",
        noun,
        DETAIL[attributes.detail[image]] if rng.random() < 0.7 else "",
    ]
    what = " ".join(word for word in words if word)
    return rng.choice(TEMPLATES).format(what=what, noun=noun or "thing").strip()


def descriptive_caption(
    attributes: Attributes, image: int, label: int, rng: np.random.Generator
) -> str:
    """A caption that says nearly everything, with a weak noun: what BLIP is taught to write."""
    parts = full_caption(attributes, image, weak_noun(label, rng))
    return "a " + " ".join(part for part in parts if part and (part in NOUNS or rng.random() < 0.9))


def full_caption(attributes: Attributes, image: int, noun: str) -> tuple[str, ...]:
    """Brightness, shape, texture, noun and detail of an image."""
    a = attributes
    return (
        BRIGHTNESS[a.brightness[image]], SHAPE[a.shape[image]], TEXTURE[a.texture[image]],
        noun, DETAIL[a.detail[image]],
    )  # fmt: skip


def weak_noun(label: int, rng: np.random.Generator) -> str:
    """The class's name, its kind, nothing, or another class's name."""
    draw = rng.random()
    if draw < EXACT_SHARE:
        return CLASS_NAMES[label]
    if draw < EXACT_SHARE + COARSE_SHARE:
        return COARSE[label]
    if draw < EXACT_SHARE + COARSE_SHARE + MISSING_SHARE:
        return ""
    others = [name for name in CLASS_NAMES if name != CLASS_NAMES[label]]
    return str(rng.choice(others))


def vocabulary() -> list[str]:
    """Every word that a caption can hold, lower case, split at hyphens."""
    phrases: Sequence[str] = (*CLASS_NAMES, *COARSE, *BRIGHTNESS, *TEXTURE, *SHAPE, *DETAIL)
    text = " ".join((*phrases, *TEMPLATES, "thing")).replace("{what}", "").replace("{noun}", "")
    return sorted(set(text.replace("-", " ").replace(",", " ").split()))
