"""NoiseCutMix: two classes in one image, by a rectangle in the noise (ICCV workshops 2025).

Inside the rectangle the noise of one class's prompt is followed, outside that of the other's, at
every step; the label's weights are the areas.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgid.methods.method import Draw
from sgid.methods.prompts import render
from sgid.records import Blend, Request

if TYPE_CHECKING:
    from sgid.methods.requests import RequestPlan

SIDE = 64
"""Side of masks: that of the latents of Stable Diffusion at 512 pixels."""


def two_classes(request: Request, plan: RequestPlan, draw: Draw) -> Request:
    """A request for its own class inside a rectangle, and any of all classes outside of it."""
    other = draw.choice("other class", range(len(plan.counts)))
    mask = rectangle(SIDE, *(draw.uniform(f"rectangle {one}") for one in ("share", "x", "y")))
    inside = float(mask.mean())
    weights = shares(request.label, other, inside)
    label = max(weights, key=weights.__getitem__)
    prompt = render(plan.template(other, draw), **plan.texts(other, request.described.caption))
    return replace(
        request,
        blend=Blend(prompt, mask),
        label=label,
        class_name=plan.images.class_names[label],
        label_weights=weights,
    )


def rectangle(side: int, share: float, x: float, y: float) -> NDArray[np.float32]:
    """(side, side): 1 inside a rectangle, whose area before it is clipped at the border is `share`.

    CutMix's (Yun et al., 2019) with Beta(1, 1): `share` and the centre `x`, `y` are uniform in
    [0, 1).
    """
    half = side * share**0.5 / 2
    left, top, right, bottom = (
        int(np.clip(round(at * side + way * half), 0, side)) for way in (-1, 1) for at in (x, y)
    )
    mask = np.zeros((side, side), np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def shares(inner: int, outer: int, inside: float) -> dict[int, float]:
    """Label weights of an image whose share `inside` is of class `inner`; they sum to 1."""
    return {inner: 1.0} if inner == outer else {inner: inside, outer: 1 - inside}
