"""A value for each pair of settings, as colour and as a figure in the cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.charts.style import PALE, SEQUENTIAL, sheet
from sgid.evaluation.statistics import Estimate
from sgid.reporting.format import ABSENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Cells = Mapping[tuple[str, str], Estimate]
"""The estimate of a row and a column."""


def heat_maps(
    panels: Mapping[str, Cells], *, rows: str, columns: str, digits: Mapping[str, int]
) -> Figure:
    """A panel for each measure, with the same rows and columns, two panels side by side.

    Args:
        panels: by the panel's title, its cells. Rows and columns are in order of appearance over
            all panels; a cell that is missing is left white.
        rows, columns: the options that vary, as the axes are named.
        digits: by the panel's title, how many decimals a cell has.
    """
    pairs = [pair for cells in panels.values() for pair in cells]
    down = list(dict.fromkeys(row for row, _ in pairs))
    across = list(dict.fromkeys(column for _, column in pairs))
    wide = min(2, len(panels))
    tall = math.ceil(len(panels) / wide)
    width = wide * (0.75 + max(2.2, 0.62 * len(across)))
    height = tall * (0.75 + max(1.2, 0.42 * len(down)))
    with sheet(width, height, (tall, wide)) as (figure, axes):
        for place, (title, cells) in zip(axes, panels.items(), strict=False):
            _panel(place, cells, down, across, digits[title])
            place.set_title(title)
            place.set_xlabel(columns)
            place.set_ylabel(rows)
        for place in axes[len(panels) :]:
            place.set_axis_off()
    return figure


def _panel(axes: Axes, cells: Cells, down: list[str], across: list[str], digits: int) -> None:
    import matplotlib
    import numpy as np

    values = np.full((len(down), len(across)), math.nan)  # (rows, columns)
    for (row, column), estimate in cells.items():
        values[down.index(row), across.index(column)] = estimate.value
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    colours = matplotlib.colormaps[SEQUENTIAL].with_extremes(bad="white")
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for row, name in enumerate(down):
        for column, other in enumerate(across):
            estimate = cells.get((name, other))
            if estimate is None or math.isnan(estimate.value):
                axes.text(column, row, ABSENT, ha="center", va="center", color="0.45")
                continue
            share = (estimate.value - low) / (high - low) if high > low else 0.5
            axes.text(
                column,
                row,
                _cell(estimate, digits),
                ha="center",
                va="center",
                fontsize=7,
                linespacing=0.95,
                color="black" if share > 0.5 else "white",
            )
    axes.set_xticks(range(len(across)), across)
    axes.set_yticks(range(len(down)), down)
    axes.set_xticks([edge - 0.5 for edge in range(1, len(across))], minor=True)
    axes.set_yticks([edge - 0.5 for edge in range(1, len(down))], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, color=PALE)


def _cell(estimate: Estimate, digits: int) -> str:
    text = f"{estimate.value:.{digits}f}"
    half = estimate.half_width
    return text if math.isnan(half) else f"{text}\n± {half:.{digits}f}"
