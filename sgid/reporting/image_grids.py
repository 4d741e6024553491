"""Figures made of images: originals and the images of one augmentation or of many."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgid.reporting.figure_files import text_width
from sgid.reporting.format import steering_text
from sgid.reporting.results import Example

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


# Inches.
CELL = 1.15  # the side of an image with what is around it


GAP = 0.06


LINE = 0.14  # the height of a line of text


NAME = 1.4  # the most that a name may take


# Below that many pixels an image is shown by its pixels, not smoothed.
SMALL = 96


VERMILION = "#D55E00"


ROWS_PER_PANEL = 12


def example_grid(examples: Sequence[Example], *, repeats: int = 5) -> Figure:
    """A row per original, its images to the right, and below it caption, steering and key.

    At most `repeats` images of each original are drawn. Those that a filter dropped are dimmed and
    have a struck corner.
    """
    from PIL import Image

    columns = 1 + min(repeats, max(len(example.images) for example in examples))
    width = CELL * columns + 0.1
    notes = [_note(example, characters=int(width * 15)) for example in examples]
    heights = [CELL + 0.155 * (note.count("\n") + 1) + 0.15 for note in notes]
    sheet = _Sheet(width, sum(heights) + 0.25)
    for column, title in enumerate(["original", "augmented"]):
        sheet.write(0.05 + column * CELL, 0.2, title, weight="bold")
    if not all(kept for example in examples for kept in example.kept[: columns - 1]):
        text = "dimmed, corner struck: dropped by the filter"
        sheet.write(width - 0.06, 0.2, text, ha="right", color=VERMILION, fontsize=7)
    top = 0.25
    for example, note, height in zip(examples, notes, heights, strict=True):
        shown = zip([example.original, *example.images], [True, *example.kept], strict=True)
        for column, (encoded, kept) in enumerate(itertools.islice(shown, columns)):
            image = Image.open(io.BytesIO(encoded))
            sheet.show(image, 0.05 + column * CELL, top, CELL - GAP, dropped=not kept)
        sheet.write(0.05, top + CELL, note, va="top", fontsize=7.5)
        top += height
    return sheet.figure


def augmentation_grid(
    originals: Sequence[Image], rows: Mapping[str, Sequence[Image]], titles: Sequence[str]
) -> Figure:
    """Originals in the first row, and below each the image of every augmentation.

    Args:
        originals: one of each column, of any sizes.
        rows: by the name of the augmentation, the images made of the originals, in their order.
        titles: what stands above each original, its class name.

    Raises:
        ValueError: if a row, or `titles`, has not one for each original.
    """
    for name, images in {"titles": titles, **rows}.items():
        if len(images) != len(originals):
            raise ValueError(f"{name}: {len(images)} for {len(originals)} originals")
    cell = 0.8
    left = 0.2 + max(map(_width, ("original", *rows)))
    heads = [_two_lines(title, cell - GAP, fontsize=7) for title in titles]
    top = 0.1 + LINE * (1 + max((head.count("\n") for head in heads), default=0))
    sheet = _Sheet(left + cell * len(originals) + 0.02, top + cell * (1 + len(rows)) + 0.1)
    for column, head in enumerate(heads):
        centre = left + column * cell + (cell - GAP) / 2
        sheet.write(centre, top - 0.04, head, ha="center", fontsize=7)
    for name, images in {"original": originals, **rows}.items():
        weight = "bold" if images is originals else "normal"
        sheet.write(
            left - 0.09, top + (cell - GAP) / 2, name, ha="right", va="center", weight=weight
        )
        for column, image in enumerate(images):
            sheet.show(image, left + column * cell, top, cell - GAP)
        # A little air sets the originals off.
        top += cell + (0.06 if images is originals else 0)
    return sheet.figure


def class_grid(groups: Mapping[str, Sequence[Image]], *, hidden: int = 0) -> Figure:
    """Some images of each class next to its name; `hidden` classes more are only counted.

    Beyond `ROWS_PER_PANEL` classes the rows go on in further panels to the right.
    """
    panels = math.ceil(len(groups) / ROWS_PER_PANEL)
    per_panel = math.ceil(len(groups) / panels)
    cell, top, foot = 0.66, 0.06, 0.28 if hidden else 0.06
    names = {name: _two_lines(name, NAME) for name in groups}
    starts, width = [], 0.0  # where the images of each panel begin
    for first in range(0, len(groups), per_panel):
        panel = list(groups)[first : first + per_panel]
        starts.append(width + 0.2 + max(_width(names[name]) for name in panel))
        width = starts[-1] + cell * max(len(groups[name]) for name in panel)
    sheet = _Sheet(width, top + cell * per_panel + foot)
    for index, (name, images) in enumerate(groups.items()):
        panel, row = divmod(index, per_panel)
        y = top + cell * row
        middle = y + (cell - GAP) / 2
        sheet.write(starts[panel] - 0.09, middle, names[name], ha="right", va="center")
        for column, image in enumerate(images):
            sheet.show(image, starts[panel] + column * cell, y, cell - GAP)
    if hidden:
        text = f"and {hidden:,} more class{'es' * (hidden > 1)}"
        sheet.write(starts[0], top + cell * per_panel + 0.14, text, va="center", color="0.35")
    return sheet.figure


class _Sheet:
    """A white figure on which things are put by inches from its upper left corner."""

    def __init__(self, width: float, height: float):
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width, height), dpi=150)
        self.width, self.height = width, height
        # One for all: a hundred axes take seconds.
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.set_axis_off()

    def write(self, x: float, y: float, text: str, *, fontsize: float = 8, **style: Any) -> None:
        """Text, by default with its left end and baseline at that point; $ is but a dollar."""
        self.axes.text(x, y, text, fontsize=fontsize, parse_math=False, **style)

    def show(self, image: Image, x: float, y: float, side: float, *, dropped: bool = False) -> None:
        """An image, whole and undistorted, in the middle of a square of that side."""
        import numpy as np

        scale = side / max(image.size)
        width, height = image.width * scale, image.height * scale
        left, top = x + (side - width) / 2, y + (side - height) / 2
        self.axes.imshow(
            np.asarray(image.convert("RGB")),  # (H, W, 3)
            extent=(left, left + width, top + height, top),
            aspect="auto",
            interpolation="auto" if min(image.size) >= SMALL else "nearest",
            alpha=0.35 if dropped else None,
        )
        if dropped:
            from matplotlib.patches import Polygon

            right, cut = left + width, 0.3 * min(width, height)
            corner = [(right, top), (right - cut, top), (right, top + cut)]
            self.axes.add_patch(Polygon(corner, color=VERMILION, lw=0))


def _two_lines(text: str, inches: float, fontsize: float = 8) -> str:
    """The most of `text` that two lines of that width hold, from its beginning and to its end."""
    for letters in range(len(text), 3, -1):
        lines = textwrap.wrap(text, letters)
        if len(lines) > 2:
            lines = [lines[0], f"…{text[1 - letters :].lstrip()}"]
        if _width("\n".join(lines), fontsize) <= inches:
            return "\n".join(lines)
    return text[:3]


def _width(text: str, fontsize: float = 8) -> float:
    """The width of the widest line, in inches."""
    return max(text_width(line, fontsize) for line in text.split("\n"))


def _note(example: Example, *, characters: int) -> str:
    title = example.class_name + (f": “{example.caption}”" if example.caption else "")
    texts = (title, steering_text(example), f"key {example.key}")
    lines = [textwrap.wrap(text, characters) for text in texts]
    return "\n".join(itertools.chain(*lines))
