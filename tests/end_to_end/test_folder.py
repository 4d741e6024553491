"""`dataset=folder` on what people have in their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.writers import picture

OPTIONS = ("dataset=folder", "models=tiny", "backbone=small_resnet")


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Two classes with one image of each kind, 7 plain ones, and one that is cut off."""
    top = tmp_path / "my images"
    for label, name in enumerate(["Größe 9 ½", "été_été"]):
        folder = top / name
        folder.mkdir(parents=True)
        for index in range(7):
            picture(label, index, 32).save(folder / f"plain {index}.png")
        image = picture(label, 100, 48)
        image.convert("L").save(folder / "grey.png")
        image.convert("P").save(folder / "palette.gif")
        image.convert("CMYK").save(folder / "cmyk.jpg")
        with_alpha = image.convert("RGBA")
        with_alpha.putalpha(128)
        with_alpha.save(folder / "alpha.webp")
        deep = (np.asarray(image.convert("L")).astype(np.uint16) + label) * 256
        Image.fromarray(deep).save(folder / "sixteen bits.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        picture(label, 101, 64).resize((64, 40)).save(folder / "turned.jpg", exif=exif)
    broken = top / "été_été" / "broken.png"
    broken.write_bytes((top / "été_été" / "plain 0.png").read_bytes()[:300])
    (top / "notes.txt").write_text("no image")
    return top


def test_all_kinds_of_images(place, mixed):
    outcome = place.run(
        *OPTIONS, f"dataset.root='{mixed}'", "dataset.max_bad=0.1", "backbone.steps=2",
        "expansion=1", "steps=4", "trainer.validations=1",
    ).good()  # fmt: skip
    assert "models=tiny knows clothing at 32 px and nothing else" in outcome.text.replace("\n", " ")
    assert "1 unreadable" in outcome.text and "broken.png" in outcome.text
    result = place.result()
    assert result["protocol"]["left_out"]["count"] == 1
    assert "broken.png" in result["protocol"]["left_out"]["first"][0]
    (file,) = place.artifacts.glob("generated/*/part-*.parquet")
    rows = pq.read_table(file).to_pylist()
    assert {row["class_name"] for row in rows} == {"Größe 9 ½", "été été"}
    assert "Größe 9 ½" in (place.results / result["fingerprint"] / "report.html").read_text()


def test_too_many_broken_images(place, mixed):
    outcome = place.run(*OPTIONS, f"dataset.root='{mixed}'", "dataset.max_bad=0.01")
    assert outcome.code == 1 and "Traceback" not in outcome.text
    assert "broken.png" in outcome.err and "dataset.max_bad" in outcome.err


def test_folders_that_hold_too_little(place, tmp_path):
    empty, one = tmp_path / "empty", tmp_path / "one"
    empty.mkdir()
    (one / "cats").mkdir(parents=True)
    picture(0, 0).save(one / "cats" / "0.png")
    few = tmp_path / "few"
    for label, name in enumerate("ab"):
        (few / name).mkdir(parents=True)
        picture(label, 0).save(few / name / "0.png")
    for root, said in (
        (tmp_path / "nowhere", "does not exist"),
        (empty, "holds no images"),
        (one, "one class only, 'cats'"),
        (few, "needs 3 images of each class to draw from, but 2 of 2 classes have fewer: 'a' (1)"),
    ):
        outcome = place.run(*OPTIONS, f"dataset.root='{root}'")
        assert outcome.code == 1 and said in outcome.err, outcome.text
        assert "Traceback" not in outcome.text
    assert not place.files()
