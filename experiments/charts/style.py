"""Style of all charts: colours that the colour-blind tell apart, marks, sizes, and files.

Text is 8 points at the size drawn, so that a chart is read at its own width in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe and Ito's, without the yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")


MARKERS = ("o", "s", "^", "D", "v", "P", "X")


DASHES = ("-", "--", "-.", ":")


# The method that all is about: drawn last, larger, and dark as no other is.
OURS = "sgid"


INK, GREY, PALE = "#000000", "0.45", "0.88"


# Both sequential maps rise in lightness alone for those who see no colour, and in print.
SEQUENTIAL = "cividis"


COLUMN, PAGE = 3.4, 6.9  # inches: a column and the width of a page of two columns


STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.dpi": 200,
    "figure.constrained_layout.use": True,
}


@contextmanager
def sheet(
    width: float, height: float, panels: tuple[int, int] = (1, 1), **options: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `width` × `height` inches with rows × columns of axes, to be drawn on within;
    what is drawn later moves nothing."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, list(figure.subplots(*panels, squeeze=False, **options).flat)
        # Once: the layout would shift a little with each further file.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


@dataclass(frozen=True, slots=True)
class Look:
    """Look of a series: colour, marker, its size in points, and what it lies over."""

    colour: str
    marker: str
    size: float
    zorder: float


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each series; no two are the same below fifty, and `OURS` has one to itself."""
    # Both change from one to the next; after a round of colours the markers are shifted by one.
    pairs = cycle(
        (COLOURS[index], MARKERS[(index + shift) % len(MARKERS)])
        for shift, index in product(range(len(MARKERS)), range(len(COLOURS)))
    )
    return {
        name: Look(INK, "*", 9, 3) if name == OURS else Look(*next(pairs), 5, 2) for name in names
    }
