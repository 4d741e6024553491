"""The critical-difference diagram: mean ranks on a line, and what cannot be told apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from experiments.charts.ranks import Ranking, cliques, critical_difference
from experiments.charts.style import COLOURS, COLUMN, GREY, PAGE, sheet
from sgid.reporting.figure_files import text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ROW = 0.2  # inches


def rank_line(ranking: Ranking) -> Figure:
    """Mean ranks, the best on the left (after Demšar, JMLR 7, 2006, figure 1).

    Methods under one bar cannot be told apart by Nemenyi's test at .05. Where the critical
    difference is longer than the line, nothing can be, and it says so instead of one long bar.

    Raises:
        ValueError: for a single block, whose ranks can separate nothing.
    """
    if len(ranking.blocks) < 2:
        raise ValueError("ranks over fewer than two blocks tell nothing apart")
    means, count = ranking.means, len(ranking.methods)
    difference = critical_difference(count, len(ranking.blocks))
    bars = cliques(means, difference) if difference < count - 1 else []
    half = math.ceil(count / 2)
    labels = [f"{name} ({mean:.2f})" for name, mean in zip(ranking.methods, means, strict=True)]
    side = max(map(text_width, labels)) + 0.15
    width = max(COLUMN, min(PAGE, 2 * side + 0.25 * count + 1))
    above, below = 0.55, 0.12 * len(bars) + 0.15
    height = above + below + ROW * half + 0.1
    with sheet(width, height) as (figure, (axes,)):
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        line = width - 2 * side

        def at(rank: float) -> float:
            return side + line * (rank - 1) / (count - 1)

        axes.plot([at(1), at(count)], [above, above], color="black", linewidth=0.8)
        step = math.ceil(count / 10)
        for tick in {*range(1, count, step), count} - {count - 1 if step > 1 else 0}:
            axes.plot([at(tick)] * 2, [above - 0.06, above], color="black", linewidth=0.8)
            axes.text(at(tick), above - 0.09, str(tick), ha="center", va="bottom", fontsize=7)
        text = f"critical difference {difference:.2f}"
        if difference < count - 1:
            ends = [at(1), at(1 + difference)]
            axes.plot(ends, [0.2, 0.2], "|-", color=COLOURS[1], linewidth=1.2, ms=5)
            axes.text(ends[1] + 0.08, 0.2, text, va="center", fontsize=7, color=COLOURS[1])
        else:
            text += ": longer than the line, no two methods can be told apart"
            axes.text(width / 2, 0.15, text, ha="center", va="center", fontsize=7)
        for index, (label, mean) in enumerate(zip(labels, means, strict=True)):
            left = index < half
            row = index if left else count - 1 - index
            y = above + below + ROW * row + ROW / 2
            end = side - 0.05 if left else width - side + 0.05
            axes.plot([at(mean), at(mean), end], [above, y, y], color=GREY, linewidth=0.7)
            axes.plot(at(mean), above, "o", color="black", markersize=2.5)
            place = end - 0.04 if left else end + 0.04
            axes.text(
                place, y, label, ha="right" if left else "left", va="center", parse_math=False
            )
        for row, (first, last) in enumerate(bars):
            y = above + 0.12 * (row + 1)
            ends = [at(means[first]) - 0.03, at(means[last]) + 0.03]
            axes.plot(ends, [y, y], color=COLOURS[0], linewidth=2.6, solid_capstyle="butt")
    return figure
