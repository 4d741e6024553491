"""Charts say what they are given, in text that can be read; files are the same every time."""

import math
import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from PIL import Image

from experiments.charts.classes import MEAN, class_dots
from experiments.charts.forest import forest
from experiments.charts.heatmap import heat_maps
from experiments.charts.image_grid import settings_grid
from experiments.charts.lines import lines
from experiments.charts.plane import Point, plane
from experiments.charts.rank_line import rank_line
from experiments.charts.ranks import rank
from experiments.charts.style import INK, looks
from sgid.evaluation.statistics import Estimate
from sgid.reporting.figure_files import encode

RNG = np.random.default_rng(0)
METHODS = (
    *("none", "flip_crop", "cutout", "random_erasing", "mixup", "cutmix", "autoaugment"),
    *("randaugment", "trivialaugment", "augmix", "gridmask", "text2img_label", "sgid"),
)


def about(value: float, half: float = math.nan, p: float = math.nan) -> Estimate:
    return Estimate(value, value - half, value + half, 3, p)


def heat() -> Figure:
    cells = {(r, c): about(70 + i, 0.5) for i, (r, c) in enumerate(combinations("1357", 2))}
    titles = {"test top-1 (%)": 1, "cosine": 3, "diversity": 3}
    panels = {title: cells for title in titles}
    return heat_maps(panels, rows="noise_rate", columns="guidance.scale", digits=titles)


def trend() -> Figure:
    series = {name: {5: about(2, 1), 50: about(1)} for name in METHODS[-3:]}
    return lines(series, across="shots", up="gain", levels={"flip_crop": about(1, 0.2)}, zero=True)


def dots() -> Figure:
    values = {name: {"coat & $x$": 0.9, "<b>": 0.8} for name in METHODS}
    return class_dots(values, across="mean cosine")


def differences() -> Figure:
    panel = {name: about(RNG.normal(), 1, 0.03) for name in METHODS}
    return forest({"small_resnet": panel, "small_vit": {"sgid": about(1)}}, across="points")


def ranks(blocks: int = 30) -> Figure:
    ranking = rank(
        {str(b): {n: RNG.normal() + i for i, n in enumerate(METHODS)} for b in range(blocks)}
    )
    assert ranking is not None
    return rank_line(ranking)


def points() -> Figure:
    return plane(
        {name: Point(0.9 + RNG.normal() / 50, RNG.normal() / 50, 70) for name in METHODS},
        across="consistency",
        up="diversity",
        colour="top-1",
    )


def image() -> Figure:
    made = {(r, c): Image.new("RGB", (40, 30)) for r in ("0.3", "0.9") for c in ("1.5", "10")}
    made.pop(("0.9", "10"))
    return settings_grid(
        Image.new("RGB", (32, 32)), made, rows="noise_rate", columns="guidance.scale", title="a $5"
    )


ALL = [heat, trend, dots, differences, ranks, points, image]


def texts(figure: Figure) -> list[Text]:
    """All that is drawn: a tick beyond the end of its axis has a label that is not."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not (axes.axison and low - 1e-9 <= tick.get_loc() <= high + 1e-9):
                    hidden |= {id(tick.label1), id(tick.label2)}
    return [
        one
        for one in figure.findobj(Text)
        if isinstance(one, Text)
        and one.get_visible()
        and one.get_text().strip()
        and id(one) not in hidden
    ]


@pytest.mark.parametrize("draw", ALL)
class TestEveryChart:
    def test_nothing_is_cut_off_and_no_text_hides_another(self, draw):
        figure = draw()
        figure.draw_without_rendering()
        shown = [(one.get_text(), one.get_window_extent()) for one in texts(figure)]
        for text, box in shown:
            assert box.x0 >= -1 and box.y0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
        for (one, box), (other, second) in combinations(shown, 2):
            wide = min(box.x1, second.x1) - max(box.x0, second.x0)
            tall = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert min(wide, tall) < 2, f"{one!r} over {other!r}"

    def test_its_files_are_the_same_every_time(self, draw):
        figure = draw()
        svg = encode(figure, "svg")
        assert encode(figure, "png").startswith(b"\x89PNG")
        assert encode(figure, "svg") == svg
        assert not re.search(rb"<dc:date>", svg)


def test_a_hundred_methods_can_be_told_apart():
    assert len(set(looks(map(str, range(49))).values())) == 49
    assert len(looks(map(str, range(100)))) == 100


def test_sgid_is_dark_and_over_the_others_as_nothing_else_is():
    styles = looks(["sgid", *map(str, range(60))])
    ours = styles.pop("sgid")
    assert ours.colour == INK and INK not in {one.colour for one in styles.values()}
    assert all(ours.zorder > one.zorder and ours.size > one.size for one in styles.values())
    assert styles == looks(map(str, range(60))), "the others do not change with it"


def test_no_line_of_the_plane_runs_through_a_name():
    figure = points()
    figure.draw_without_rendering()
    names = [one for one in figure.axes[0].texts if isinstance(one, Annotation)]
    lines = [one for one in names if one.arrow_patch is not None]
    assert lines, "some name is too far from its mark to do without"
    for one in lines:
        start = figure.axes[0].transData.transform(one.xy)
        place = one.get_transform().transform(one.get_position())
        line = Path([start, place])
        for other in names:
            if other is not one:
                box = Text.get_window_extent(other)
                assert not line.intersects_bbox(box, filled=False), (one, other)


def test_a_cell_says_its_value_and_its_interval_and_a_missing_one_nothing():
    cells = {("0.3", "5"): about(70.26, 0.5), ("0.9", "10"): about(71.0)}
    figure = heat_maps({"top-1": cells}, rows="rate", columns="scale", digits={"top-1": 1})
    said = {one.get_text() for one in texts(figure)}
    assert {"70.3\n± 0.5", "71.0", "–"} <= said


def test_only_what_the_test_supports_is_full():
    figure = forest({"x": {"a": about(1, 0.5, 0.01), "b": about(1, 0.5, 0.2)}}, across="points")
    marks = [one for one in figure.axes[0].lines if one.get_marker() == "o"]
    assert [one.get_markerfacecolor() == "white" for one in marks] == [False, True]
    assert {"+1.00, p = .010", "+1.00, p = .200"} <= {one.get_text() for one in texts(figure)}


def test_the_mean_of_the_classes_stands_beneath_them():
    figure = class_dots({"sgid": {"coat": 0.8, "dress": 1.0}}, across="cosine")
    (marks,) = [one for one in figure.axes[0].lines if one.get_label() == "sgid"]
    assert list(marks.get_xdata()) == pytest.approx([0.8, 1.0, 0.9])
    assert figure.axes[0].get_yticklabels()[-1].get_text() == MEAN
    many = class_dots({"sgid": {f"class {i}": 0.5 for i in range(120)}}, across="cosine")
    assert len(many.axes) == 3, "many classes go on in further columns"


def test_few_blocks_tell_nothing_apart_and_the_diagram_says_so():
    said = [one.get_text() for one in texts(ranks(blocks=2))]
    assert any("no two methods can be told apart" in one for one in said)
    assert not any("no two" in one.get_text() for one in texts(ranks(blocks=30)))
    with pytest.raises(ValueError, match="fewer than two"):
        ranks(blocks=1)
