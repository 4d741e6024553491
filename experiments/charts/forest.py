"""Differences with their intervals, one under the other: which are on one side of zero?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.charts.style import COLOURS, GREY, PALE, sheet
from sgid.evaluation.statistics import Estimate
from sgid.reporting.figure_files import text_width
from sgid.reporting.format import ABSENT, p_text, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def forest(panels: Mapping[str, Mapping[str, Estimate]], *, across: str) -> Figure:
    """A panel per group side by side, a row per comparison, in order of appearance.

    A mark is full where the test supports the difference and hollow where it does not; next to it
    stand the value and its (corrected) p. A comparison that a panel does not have is absent in it.
    """
    rows = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    names = max(map(text_width, rows))
    ends = [
        end
        for panel in panels.values()
        for one in panel.values()
        for end in (one.value, one.low, one.high)
        if math.isfinite(end)
    ]
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    margin = 0.06 * (high - low or 1)
    width = names + 0.15 + len(panels) * (3.0 if len(panels) < 2 else 2.3)
    with sheet(width, 0.2 * len(rows) + 0.75, (1, len(panels)), sharey=True) as (figure, axes):
        for place, (title, panel) in zip(axes, panels.items(), strict=True):
            place.set_xlim(low - margin, high + margin)
            place.set_ylim(len(rows) - 0.4, -0.6)
            _panel(place, panel, rows)
            place.set_title(title if len(panels) > 1 else "", parse_math=False)
            place.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(rows)), rows, parse_math=False)
        figure.supxlabel(across, fontsize=8)
    return figure


def _panel(axes: Axes, panel: Mapping[str, Estimate], rows: list[str]) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    for row, name in enumerate(rows):
        estimate = panel.get(name)
        known = estimate is not None and math.isfinite(estimate.value)
        text = _text(estimate) if estimate is not None and known else ABSENT
        # In the panel's right margin, by points and not by values.
        axes.annotate(
            text, (1, row), (3, 0), ("axes fraction", "data"), "offset points",
            fontsize=6.5, va="center", annotation_clip=False,
        )  # fmt: skip
        if estimate is None or not known:
            continue
        colour = COLOURS[0] if estimate.value >= 0 else COLOURS[1]
        if math.isfinite(estimate.low):
            axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.4)
        full = colour if estimate.supported else "white"
        marker = "o" if estimate.value >= 0 else "s"
        axes.plot(estimate.value, row, marker, color=colour, markerfacecolor=full, markersize=5)


def _text(estimate: Estimate) -> str:
    p = "" if math.isnan(estimate.p) else f", {p_text(estimate.p)}"
    return f"{signed(estimate.value)}{p}"
