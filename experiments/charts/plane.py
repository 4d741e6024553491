"""Methods as points on a plane of two measures, a third as colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.charts.style import GREY, INK, MARKERS, OURS, PALE, SEQUENTIAL, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox


# Directions that a name may lie in, as shares of its distance: right and up are positive.
_SIDES = (
    *((1, 0), (-1, 0), (0.7, 1), (-0.7, 1), (0.7, -1), (-0.7, -1)),
    *((1, 0.5), (-1, 0.5), (1, -0.5), (-1, -0.5), (0.1, 1), (0.1, -1)),
)


@dataclass(frozen=True, slots=True)
class Point:
    """The position of a method, and the value of its colour."""

    x: float
    y: float
    value: float


def plane(points: Mapping[str, Point], *, across: str, up: str, colour: str) -> Figure:
    """A mark per method with its name next to it; names do not overlap. SGID's stands out."""
    with sheet(4.6, 3.3) as (figure, (axes,)):
        axes.grid(color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        values = [point.value for point in points.values()]
        low, high = min(values), max(values)
        drawn = None
        for index, (name, point) in enumerate(points.items()):
            ours = name == OURS
            drawn = axes.scatter(
                [point.x],
                [point.y],
                s=120 if ours else 46,
                c=[point.value],
                cmap=SEQUENTIAL,
                vmin=low,
                vmax=high if high > low else low + 1,
                marker="*" if ours else MARKERS[index % len(MARKERS)],
                edgecolors=INK,
                linewidths=1.2 if ours else 0.6,
                zorder=4 if ours else 3,
            )
        axes.margins(0.14)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        if drawn is not None:
            bar = figure.colorbar(drawn, ax=axes, label=colour, aspect=28, pad=0.02)
            bar.outline.set_linewidth(0.6)
        _label(figure, axes, points)
    return figure


def _label(figure: Figure, axes: Axes, points: Mapping[str, Point]) -> None:
    """Each name where it hides the least: next to its mark, or further off with a line to it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # only now the layout is settled
    figure.set_layout_engine("none")
    unit = figure.dpi / 72
    marks = {name: axes.transData.transform((point.x, point.y)) for name, point in points.items()}
    sizes = {name: (8 if name == OURS else 5) * unit for name in points}
    taken = [
        Bbox.from_bounds(x - sizes[name], y - sizes[name], 2 * sizes[name], 2 * sizes[name])
        for name, (x, y) in marks.items()
    ]
    inside = axes.get_window_extent()
    offsets = [
        (side * distance, up * distance, side)
        for distance in (7, 11, 17, 24, 32, 42, 54, 68)
        for side, up in _SIDES
    ]
    names: list[Bbox] = []
    lines: list[Path] = []
    for name, point in points.items():
        style: dict[str, Any] = {
            "textcoords": "offset points", "fontsize": 7, "va": "center", "parse_math": False,
            "weight": "bold" if name == OURS else "normal",
        }  # fmt: skip
        best: tuple[float, tuple[float, float, float], Bbox, Path | None] | None = None
        for dx, dy, side in offsets:
            text = axes.annotate(
                name, (point.x, point.y), (dx, dy), ha="left" if side > 0 else "right", **style
            )
            box = text.get_window_extent(canvas.get_renderer()).padded(1.0 * unit)
            text.remove()
            x, y = marks[name]
            line = Path([(x, y), (x + dx * unit, y + dy * unit)]) if _far(dx, dy) else None
            crossed = sum(one.intersects_bbox(box, filled=False) for one in lines)
            if line is not None:
                crossed += sum(line.intersects_bbox(one, filled=False) for one in names)
            hidden = sum(_overlap(box, other) for other in taken)
            outside = box.width * box.height - _overlap(box, inside)
            cost = hidden + 3 * max(0.0, outside) + crossed * box.width * box.height
            if best is None or cost < best[0] - 1e-6:
                best = cost, (dx, dy, side), box, line
            if cost < 1e-6:
                break
        assert best is not None
        _, (dx, dy, side), box, line = best
        taken.append(box)
        names.append(box)
        lines += [line] if line is not None else []
        axes.annotate(
            name, (point.x, point.y), (dx, dy), ha="left" if side > 0 else "right", **style,
            arrowprops=None if line is None else {"arrowstyle": "-", "color": GREY, "lw": 0.6},
        )  # fmt: skip


def _far(dx: float, dy: float) -> bool:
    """Whether a name that far off, in points, needs a line to its mark."""
    return max(abs(dx), abs(dy)) > 12


def _overlap(one: Bbox, other: Bbox) -> float:
    """The area, in square pixels, that two boxes share."""
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    tall = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, wide) * max(0.0, tall)
