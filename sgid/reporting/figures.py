"""Charts of one run, in Okabe and Ito's colours, which the colour-blind can tell apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgid.reporting.arms import BASELINE
from sgid.reporting.figure_files import encode
from sgid.reporting.html import _uri
from sgid.reporting.results import Curve, Example, Generation, Result, read_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"


COLOURS = (BLUE, ORANGE, GREEN, PINK, BLACK)


# Classes that fit under each other before a second column of bars begins.
CLASSES_PER_PANEL = 50


_STYLE: dict[Any, Any] = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}


_LEGEND = {"frameon": False, "fontsize": 8}


_TITLES = {"similarity": "caption–image similarity", "guidance_scale": "guidance scale"}


def histograms(generated: Sequence[Generation]) -> Figure:
    """Distributions of similarity and guidance scale over the requests, a line per method."""
    names = list(dict.fromkeys(name for one in generated for name in one.histograms))
    figure, panels = _panels(len(names), 3.3 * len(names), 2.4)
    for axes, name in zip(panels, names, strict=True):
        for one, colour in zip(generated, _cycle(len(generated)), strict=True):
            if histogram := one.histograms.get(name):
                counts, edges = histogram["counts"], histogram["edges"]
                axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
                axes.stairs(counts, edges, color=colour, linewidth=1.2, label=one.method)
        axes.set_xlabel(_TITLES.get(name, name.replace("_", " ")))
        axes.set_ylabel("images")
        axes.set_ylim(bottom=0)
    if len(generated) > 1:
        panels[0].legend(**_LEGEND)
    return figure


def class_cosine(generated: Sequence[Generation]) -> Figure:
    """Mean cosine similarity of augmented images and their originals, by class."""
    series = {one.method: one.cosine_per_class for one in generated if one.cosine_per_class}
    return _class_bars(series, "mean cosine, augmented–original")


def class_accuracy(
    accuracy: Mapping[str, float], baseline: Mapping[str, float] | None = None
) -> Figure:
    """Test top-1 of each class in percent; that of the baseline (`aug=flip_crop`) as dots."""
    return _class_bars({"this run": accuracy}, "test top-1 (%)", dots=baseline)


def curves(logged: Mapping[str, Curve]) -> Figure:
    """Every metric over the steps: a panel for each kind (loss, top1), a line for each part."""
    kinds = list(dict.fromkeys(name.rpartition("/")[2] for name in logged))
    figure, panels = _panels(len(kinds), 3.3 * len(kinds), 2.4)
    for axes, kind in zip(panels, kinds, strict=True):
        lines = {name: curve for name, curve in logged.items() if name.rpartition("/")[2] == kind}
        for (name, curve), colour in zip(lines.items(), _cycle(len(lines)), strict=True):
            marker = "o" if len(curve.steps) < 20 else None
            label = name.rpartition("/")[0] or name
            axes.plot(curve.steps, curve.values, color=colour, marker=marker, ms=3, label=label)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel({"top1": "top-1 (%)"}.get(kind, kind))
        axes.legend(**_LEGEND)
    return figure


def _class_bars(
    series: Mapping[str, Mapping[str, float]],
    label: str,
    *,
    dots: Mapping[str, float] | None = None,
) -> Figure:
    """Horizontal bars, so that class names are read without tilting the head.

    Beyond `CLASSES_PER_PANEL` classes the bars go on in further panels to the right.
    """
    classes = list(dict.fromkeys(name for values in series.values() for name in values))
    count = math.ceil(len(classes) / CLASSES_PER_PANEL)
    per_panel = math.ceil(len(classes) / count)
    dense = per_panel > 20
    names = {name: _shorten(name, 36) for name in classes}
    width = count * (0.07 * max(map(len, names.values())) + (1.9 if count > 1 else 4.2))
    figure, panels = _panels(count, width, per_panel * (0.16 if dense else 0.26) + 0.9)
    height = 0.76 / len(series)
    values = [value for one in (*series.values(), dots or {}) for value in one.values()]
    limits = (min(0.0, *values), 1.04 * max(1e-9, *values))
    for index, axes in enumerate(panels):
        shown = classes[index * per_panel : (index + 1) * per_panel]
        for rank, (method, colour) in enumerate(zip(series, _cycle(len(series)), strict=True)):
            offsets = [row + (rank - (len(series) - 1) / 2) * height for row in range(len(shown))]
            lengths = [series[method].get(name, math.nan) for name in shown]
            axes.barh(offsets, lengths, height, color=colour, label=method)
        if dots is not None:
            places = [dots.get(name, math.nan) for name in shown]
            style = {"markerfacecolor": ORANGE, "markeredgecolor": "black", "markeredgewidth": 0.6}
            axes.plot(
                places, range(len(shown)), "o", ms=3.5 if dense else 5, label=BASELINE, **style
            )
        axes.set_yticks(range(len(shown)), [names[name] for name in shown], parse_math=False)
        axes.set_xlim(*limits)
        axes.set_ylim(per_panel - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelsize=7 if dense else 8)
        axes.grid(axis="x", color="0.88", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(label)
    if len(series) > 1 or dots is not None:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=3, **_LEGEND)
    return figure


def _shorten(text: str, length: int) -> str:
    """Cut in the middle: the year of a car and the end of a species tell classes apart."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """`count` empty axes side by side in a figure of `width` × `height` inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in panels:
        axes.tick_params(labelsize=8)
    return figure, panels


@dataclass(frozen=True)
class Picture:
    """A chart as it stands on the page, `width` CSS pixels wide."""

    png: bytes
    width: int
    caption: str

    @property
    def uri(self) -> str:
        return _uri(self.png, "png")

    @property
    def wide(self) -> bool:
        """Whether it is to be scrolled rather than shrunk."""
        return self.width > 900


def draw_pictures(
    result: Result, examples: Sequence[Example], baseline: Result | None
) -> dict[str, Picture]:
    """Every picture that the run has something to show in, by name.

    `baseline` is the run with `aug=flip_crop` to draw for comparison.
    """
    from sgid.reporting.image_grids import example_grid

    drawn: dict[str, tuple[Figure, str]] = {}
    if examples:
        drawn["examples"] = (example_grid(examples), "Originals and their augmented images")
    if any(one.histograms for one in result.generated):
        drawn["histograms"] = (
            histograms(result.generated),
            "Similarity of the chosen captions, and the guidance scales that follow from it",
        )
    if any(one.cosine_per_class for one in result.generated):
        drawn["class_cosine"] = (
            class_cosine(result.generated),
            "Mean cosine similarity of augmented and original images, by class",
        )
    if result.class_accuracy:
        drawn["class_accuracy"] = (
            class_accuracy(result.class_accuracy, baseline.class_accuracy if baseline else None),
            "Test top-1 by class" + (f"; dots: the run with aug={BASELINE}" if baseline else ""),
        )
    if logged := read_curves(result.folder):
        drawn["curves"] = (curves(logged), "Metrics during training")
    return {name: _picture(figure, caption) for name, (figure, caption) in drawn.items()}


def _picture(figure: Figure, caption: str) -> Picture:
    return Picture(encode(figure), round(96 * figure.get_figwidth()), caption)
