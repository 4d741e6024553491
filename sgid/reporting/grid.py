"""The picture that shows what an augmentation does: originals beside the images made of them."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgid.reporting.results import Example
from sgid.reporting.wording import steering_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 1.15  # inches, the side of an image


def example_grid(examples: Sequence[Example], *, repeats: int = 5) -> Figure:
    """A row per original, its images to the right, and beneath it what steered them.

    At most `repeats` images of each original are drawn.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

    columns = 1 + min(repeats, max(len(example.images) for example in examples))
    width = CELL * columns + 0.1
    notes = [_note(example, characters=int(width * 15)) for example in examples]
    heights = [CELL + 0.155 * (note.count("\n") + 1) + 0.15 for note in notes]
    total = sum(heights) + 0.25
    figure = Figure(figsize=(width, total), dpi=150)
    top = total - 0.25
    for column, title in enumerate(["original", "augmented"]):
        place = (0.05 + column * CELL) / width
        figure.text(place, top / total + 0.05 / total, title, fontsize=8, weight="bold")
    for example, note, height in zip(examples, notes, heights, strict=True):
        for column, encoded in enumerate([example.original, *example.images][:columns]):
            image = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))  # (H, W, 3)
            left = (0.05 + column * CELL) / width
            side = CELL - 0.06
            box = (left, (top - side) / total, side / width, side / total)
            axes = figure.add_axes(box)
            axes.imshow(image, interpolation="nearest" if image.shape[0] < 96 else "auto")
            axes.set_axis_off()
        place = (0.05 / width, (top - CELL) / total)
        figure.text(*place, note, fontsize=7.5, va="top", parse_math=False)
        top -= height
    return figure


def _note(example: Example, *, characters: int) -> str:
    caption = f"{example.class_name}: “{example.caption}”"
    lines = [textwrap.wrap(text, characters) for text in (caption, steering_text(example))]
    return "\n".join(itertools.chain(*lines))
