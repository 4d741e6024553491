"""One outcome for every class and many methods: a row of marks per class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.charts.style import PALE, looks, sheet
from sgid.reporting.figure_files import text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Rows that fit under each other before a second column begins.
PER_PANEL = 50


MEAN = "mean of classes"


def class_dots(series: Mapping[str, Mapping[str, float]], *, across: str) -> Figure:
    """A row per class in order of appearance, a mark per method, and the means below.

    `series` maps methods to their value by class; SGID's mark is over the others. Beyond
    `PER_PANEL` classes the rows go on in further columns.
    """
    classes = list(dict.fromkeys(name for values in series.values() for name in values))
    shown = {name: {**values, MEAN: _mean(values)} for name, values in series.items()}
    rows = [*classes, MEAN]
    panels = math.ceil(len(rows) / PER_PANEL)
    each = math.ceil(len(rows) / panels)
    names = max(map(text_width, rows))
    columns = max(1, int((names + 3.4) / (0.4 + max(map(text_width, series)))))
    legend = 0.17 * math.ceil(len(series) / columns)
    with sheet(panels * (names + 3.2), 0.235 * each + 0.6 + legend, (1, panels), sharex=True) as (
        figure,
        axes,
    ):
        for index, place in enumerate(axes):
            part = rows[index * each : (index + 1) * each]
            for row, name in enumerate(part):
                values = [
                    v for one in shown.values() if math.isfinite(v := one.get(name, math.nan))
                ]
                if values:
                    place.plot([min(values), max(values)], [row, row], color=PALE, lw=3, zorder=1)
            styles = looks(shown)
            for method, values in shown.items():
                look = styles[method]
                place.plot(
                    [values.get(name, math.nan) for name in part],
                    range(len(part)),
                    look.marker,
                    color=look.colour,
                    markersize=look.size,
                    markeredgecolor="white",
                    markeredgewidth=0.4,
                    zorder=look.zorder,
                    label=method,
                )
            if part[-1] == MEAN and len(part) > 1:
                place.axhline(len(part) - 1.5, color="0.45", linewidth=0.6)
            place.set_yticks(range(len(part)), part, parse_math=False)
            place.set_ylim(each - 0.4, -0.6)
            place.tick_params(axis="y", length=0)
            place.grid(axis="x", color=PALE, linewidth=0.6)
            place.set_axisbelow(True)
            place.set_xlabel(across)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values) if values else math.nan
