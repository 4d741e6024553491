"""An outcome over a number that is set (images per class, images per original)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.charts.style import COLUMN, DASHES, GREY, PALE, looks, sheet
from sgid.evaluation.statistics import Estimate
from sgid.reporting.format import value_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lines(
    series: Mapping[str, Mapping[float, Estimate]],
    *,
    across: str,
    up: str,
    levels: Mapping[str, Estimate] | None = None,
    zero: bool = False,
) -> Figure:
    """A line with intervals for each series, on a logarithmic axis of the values that were tried.

    Args:
        series: by name, the estimate at each value (> 0).
        across, up: what the axes show.
        levels: what does not depend on the value, as a band across.
        zero: whether to draw the line of no difference.
    """
    ticks = sorted({value for points in series.values() for value in points})
    count = len(series) + len(levels or {})
    with sheet(COLUMN, 2.5 + 0.16 * math.ceil(count / 2)) as (figure, (axes,)):
        axes.set_xscale("log")
        if zero:
            axes.axhline(0, color=GREY, linewidth=0.8)
        # Intervals at the same place would hide each other.
        apart = 0.03 * (math.log(ticks[-1] / ticks[0]) if len(ticks) > 1 else 1)
        middle = (len(series) - 1) / 2
        styles = looks([*series, *(levels or {})])
        for rank, (name, points) in enumerate(series.items()):
            look = styles[name]
            places = sorted(points)
            values = [points[place].value for place in places]
            halves = [_shown(points[place].half_width) for place in places]
            axes.errorbar(
                [place * math.exp(apart * (rank - middle)) for place in places],
                values,
                halves,
                color=look.colour,
                marker=look.marker,
                linestyle=DASHES[rank % len(DASHES)],
                markersize=look.size,
                zorder=look.zorder,
                linewidth=1.3,
                elinewidth=0.9,
                capsize=2,
                label=name,
            )
        for rank, (name, level) in enumerate((levels or {}).items(), len(series)):
            half = _shown(level.half_width)
            axes.axhspan(level.value - half, level.value + half, color=GREY, alpha=0.18, lw=0)
            axes.axhline(level.value, color=GREY, ls=DASHES[(rank + 1) % len(DASHES)], label=name)
        axes.set_xticks(ticks, [value_text(tick) for tick in ticks])
        axes.minorticks_off()
        axes.margins(x=0.08)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        if count > 1:
            figure.legend(loc="outside lower center", ncols=2)
    return figure


def _shown(half: float) -> float:
    """An interval that is not known has no bar."""
    return 0.0 if math.isnan(half) else half
