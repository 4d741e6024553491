"""Figures draw the numbers that they are given, for 2 classes as for 200."""

import io

import pytest
from matplotlib.figure import Figure
from PIL import Image

from sgid.reporting import figures
from sgid.reporting.results import read_curves


def pixels(figure: Figure) -> tuple[int, int]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("L")
    assert image.getextrema()[0] < 128, "nothing was drawn"
    return image.size


@pytest.mark.parametrize("count", [2, 10, 37, 200])
def test_class_bars_of_any_number(count: int):
    accuracy = {
        f"Mercedes-Benz 300-Class Convertible {index}": 50 + index / 5 for index in range(count)
    }
    figure = figures.class_accuracy(accuracy, dict.fromkeys(accuracy, 40.0))
    panels = figure.axes
    assert sum(len(axes.patches) for axes in panels) == count
    assert len(panels) == (4 if count == 200 else 1)
    drawn = [patch.get_width() for axes in panels for patch in axes.patches]
    assert drawn == list(accuracy.values())
    width, height = pixels(figure)
    assert 0.3 < width / height < 5
    labels = [text.get_text() for axes in panels for text in axes.get_yticklabels()]
    assert len(set(labels)) == count


def test_class_cosine_groups_methods(make_run):
    generated = make_run(["sgid", "text2img_label"]).generated
    figure = figures.class_cosine(generated)
    assert len(figure.axes[0].patches) == 2 * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sgid", "text2img_label"]
    pixels(figure)


def test_histograms_draw_the_counts(make_run):
    generated = make_run(["sgid"]).generated
    figure = figures.histograms(generated)
    assert len(figure.axes) == 2
    values = figure.axes[0].patches[0].get_data().values
    assert list(values) == generated[0].histograms["similarity"]["counts"]
    pixels(figure)


def test_curves_have_a_panel_per_kind(make_run):
    figure = figures.curves(read_curves(make_run().folder))
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "top-1 (%)"]
    assert list(figure.axes[1].lines[0].get_xdata()) == list(range(0, 401, 40))
    pixels(figure)
