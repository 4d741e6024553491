"""Figures draw the numbers that they are given, for 2 classes as for 200."""

import io
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from PIL import Image

from sgid.reporting import figures
from sgid.reporting.grid import example_grid
from sgid.reporting.results import read_curves, read_examples
from sgid.reporting.wording import steering_text


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
    generated = make_run(["sgid", "text2img"]).generated
    figure = figures.class_cosine(generated)
    assert len(figure.axes[0].patches) == 2 * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sgid", "text2img"]
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


def test_grid_shows_images_and_says_what_steered_them(make_run):
    examples = read_examples(make_run(side=8).folder)
    figure = example_grid(examples, repeats=3)
    assert len(figure.axes) == len(examples) * 4
    words = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
    assert "similarity 0.600" in words and "guidance 3.00" in words and "a $5 collar" in words
    pixels(figure)


def test_what_a_method_does_not_have_is_not_said(make_run):
    example = read_examples(make_run(["text2img"], side=8).folder)[0]
    unsteered = replace(example, similarity=float("nan"), guidance_scale=None)
    assert steering_text(unsteered) == "text2img: strength 0.5"
    pixels(example_grid([unsteered]))
