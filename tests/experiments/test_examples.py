"""The picture at the top of the README shows the examples of a run, and what steered them."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes
from PIL import Image

from experiments import examples
from sgid.reporting.results import read_examples
from tests.data.writers import encoded, picture


@pytest.fixture
def run(tmp_path):
    """The folder of a run that keeps 8 examples."""
    rows = [
        {
            "method": "sgid", "key": f"{label}", "class_name": f"class {label}",
            "caption": "a caption of $5 " * (1 + 4 * (label == 1)), "similarity": 0.5,
            "prompt": "", "guidance_scale": 4.0, "strength": 0.7,
            "original": encoded(picture(label, 0)),
            "images": [encoded(picture(label, 1 + repeat)) for repeat in range(label)],
            "kept": [True] * label,
        }
        for label in range(8)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "examples.parquet")
    return tmp_path


def test_the_first_examples_are_drawn_with_their_images(run, tmp_path, monkeypatch):
    drawn = []
    draw = examples.draw

    def watched(shown):
        drawn.extend(shown)
        return draw(shown)

    monkeypatch.setattr(examples, "draw", watched)
    assert examples.main([str(run), "--output", str(tmp_path / "out.png")]) == 0
    assert [one.key for one in drawn] == ["0", "1", "2", "3", "4", "5"]
    page = Image.open(tmp_path / "out.png").convert("L")
    assert page.width > 1600, "text and pixels stay sharp where the page is enlarged"
    # A cell of the first row: the first example has no image beside its original, the second one.
    cell, gap = int(examples.DPI * examples.CELL), int(examples.DPI * examples.GAP)
    right = int(examples.DPI * ((1 + examples.IMAGES) * examples.CELL + examples.MARGIN))
    top = int(examples.DPI * examples.HEAD)

    def ink(left: int) -> int:
        box = page.crop((left + gap, top, left + cell - gap, top + cell - gap))
        low, high = box.getextrema()
        return high - low

    assert ink(0) > 20 and ink(right) > 20 and ink(right + cell) > 20
    assert ink(cell + gap) == 0 and ink(right + 2 * cell + gap) == 0


def test_a_run_without_generated_images_is_refused(tmp_path, capsys):
    assert examples.main([str(tmp_path)]) == 1
    assert "keeps no generated images" in capsys.readouterr().err


def test_what_a_method_does_not_have_is_not_said(run, monkeypatch):
    (first, *_) = read_examples(run)
    said, text = [], Axes.text

    def watched(axes, x, y, s, **options):
        said.append(s)
        return text(axes, x, y, s, **options)

    monkeypatch.setattr(Axes, "text", watched)
    examples.draw([replace(first, method="img2img_plain", caption="", similarity=None)])
    assert said[-1] == "img2img_plain: guidance 4.00, strength 0.7"
