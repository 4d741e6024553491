"""One image as two settings vary (the kind of the paper's Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.charts.style import sheet
from sgid.reporting.figure_files import text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


CELL, GAP = 0.82, 0.05  # inches


# Below that many pixels an image is shown by its pixels, not smoothed.
SMALL = 96


def settings_grid(
    original: Image,
    images: Mapping[tuple[str, str], Image],
    *,
    rows: str,
    columns: str,
    title: str,
) -> Figure:
    """The original, and to its right its images, by row and column in order of appearance.

    `rows` and `columns` name the options that vary. A missing image leaves its place empty.
    """
    import numpy as np

    down = list(dict.fromkeys(row for row, _ in images))
    across = list(dict.fromkeys(column for _, column in images))
    left = 0.1 + CELL + 0.35 + max(map(text_width, down))
    top = 0.62
    width = max(left + CELL * len(across) + 0.05, text_width(title) + 0.2)
    height = top + CELL * len(down) + 0.08
    with sheet(width, height) as (figure, (axes,)):
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))

        def show(image: Image, x: float, y: float) -> None:
            side = CELL - GAP
            scale = side / max(image.size)
            wide, tall = image.width * scale, image.height * scale
            x, y = x + (side - wide) / 2, y + (side - tall) / 2
            axes.imshow(
                np.asarray(image.convert("RGB")),  # (H, W, 3)
                extent=(x, x + wide, y + tall, y),
                aspect="auto",
                interpolation="auto" if min(image.size) >= SMALL else "nearest",
            )

        axes.text(0.1, 0.17, title, weight="bold", va="center", parse_math=False)
        axes.text(0.1, top - 0.08, "original")
        show(original, 0.1, top)
        middle = left + (CELL * len(across) - GAP) / 2
        axes.text(middle, top - 0.24, columns, ha="center", parse_math=False)
        for column, name in enumerate(across):
            axes.text(left + CELL * (column + 0.5) - GAP / 2, top - 0.08, name, ha="center")
        beside = left - max(map(text_width, down)) - 0.12
        half = top + (CELL * len(down) - GAP) / 2
        axes.text(beside, half, rows, rotation=90, ha="right", va="center", parse_math=False)
        for row, name in enumerate(down):
            y = top + CELL * row
            axes.text(left - 0.07, y + (CELL - GAP) / 2, name, ha="right", va="center")
            for column, other in enumerate(across):
                if image := images.get((name, other)):
                    show(image, left + CELL * column, y)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
    return figure
