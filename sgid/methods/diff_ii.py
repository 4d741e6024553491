"""Diff-II: images drawn from between two inverted images of a class (Wang & Chen, CVPR 2025).

Every training image is inverted once. Each new image begins on the circle through the latents of
two of its class, follows a prompt with a suffix first, and the plain one after (arXiv 2408.16266).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sgid.methods.method import Draw
from sgid.methods.prompts import render
from sgid.records import Later, Request
from sgid.runtime.files import atomic_path
from sgid.runtime.terminal import progress

if TYPE_CHECKING:
    from sgid.data.image_set import ImageSet
    from sgid.methods.requests import RequestPlan

PIECE = 16
"""Images that are inverted at a time, and in a file."""


def inverted(
    images: ImageSet,
    phrases: Sequence[str],
    models: Any,
    folder: Path,
    *,
    seed: int,
    prompt: str,
    steps: int,
) -> None:
    """Leave the inverted latents of every training image, a file for each `PIECE` of them.

    Images are cut to squares, so that any two have latents of one shape. A file that is there is
    not made again.
    """
    engine = models.generator
    if not hasattr(engine, "invert"):
        raise ValueError(
            "inversion needs latents, which models=any does not show; take one of models=sd15, "
            "sd21, ..."
        )
    side = engine.resolution
    with progress("invert", len(images), "images") as bar:
        for start in range(0, len(images), PIECE):
            path = folder / _name(start)
            some = [images[i] for i in range(start, min(start + PIECE, len(images)))]
            if not path.is_file():
                squares = [
                    ImageOps.fit(one.image, (side, side), method=Image.Resampling.LANCZOS)
                    for one in some
                ]
                prompts = [render(prompt, label=phrases[one.label]) for one in some]
                latents = engine.invert(squares, prompts, steps=steps)
                with atomic_path(path) as partial, partial.open("wb") as stream:
                    np.save(stream, latents.float().cpu().numpy())
            bar.update(len(some))


def between_two(
    request: Request, plan: RequestPlan, draw: Draw, *, later: str, split: float
) -> Request:
    """Begin between the latents of the original and of another image of its class.

    Args:
        later: the template of the prompt that is followed once the share `split` of the noise
            schedule is done.
    """
    own = plan.index[request.described.key]
    other = draw.turn("pair", [one for one in plan.members[request.label] if one != own])
    assert plan.artifact is not None, "a method of inverted images has prepare: inverted"
    first, second = (latents(plan.artifact, one) for one in (own, other))
    start = on_circle(first, second, draw.uniform("place"))
    prompt = render(later, **plan.texts(request.label, request.described.caption))
    return replace(request, start=start, later=Later(split, prompt))


def on_circle(first: NDArray, second: NDArray, place: float) -> NDArray[np.float32]:
    """Circle interpolation: [sin((1 + a) t) first - sin(a t) second] / sin t.

    t is the angle between the two, and a = 2 pi place / t, so that `place` in [0, 1) goes once
    around the circle, from the first. Of two that point the same way, or in opposite ways, it is
    the first: they span no circle.
    """
    one, two = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return first.astype(np.float32)
    turned = 2 * np.pi * place  # a t
    mixed = (np.sin(angle + turned) * one - np.sin(turned) * two) / np.sin(angle)
    return mixed.reshape(first.shape).astype(np.float32)


def latents(folder: Path, index: int) -> NDArray[np.float32]:
    """The inverted latents (C, h, w) of a training image."""
    piece, row = divmod(index, PIECE)
    return _piece(folder / _name(piece * PIECE))[row]


@lru_cache(maxsize=64)
def _piece(path: Path) -> NDArray[np.float32]:
    return np.load(path)


def _name(start: int) -> str:
    return f"latents-{start:08}.npy"
