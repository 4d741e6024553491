"""A study of real stores: what raters see is what the stores hold, balanced, under blind names."""

from __future__ import annotations

import io
import os
import sqlite3
from collections import Counter
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sgid.data.decode import decode
from sgid.human_study.__main__ import main
from sgid.human_study.questions import UNCHANGED
from sgid.human_study.study import Study


@pytest.fixture
def build(stores, tmp_path):
    """`build("--questions", "16")`: the exit code; the study is in `tmp_path / "study"`."""
    place, options = stores

    def run(*more: str, options=options) -> int:
        with mock.patch.dict(os.environ, place.environment, clear=True):
            return main(["build", *options, "--output", str(tmp_path / "study"), *more])

    return run


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_raters_see_what_the_stores_hold(stores, build, tmp_path, capsys):
    assert build("--questions", "17") == 0
    assert (
        "16 questions to each rater: originals 4 × methods 2 × kinds 2" in capsys.readouterr().out
    )
    study = Study(tmp_path / "study")
    place, _ = stores
    stored = {
        (row["method"], row["key"], row["repeat"]): np.asarray(decode(row["image"]["bytes"]))
        for file in place.artifacts.glob("generated/*/part-*.parquet")
        for row in pq.read_table(file).to_pylist()
    }
    shown = {}
    for one in study.questions.values():
        original, *made = (pixels(study.picture(id).data) for id in one.images)
        source = Image.open(place.top / "images" / one.key).convert("RGB")
        assert np.array_equal(original, source) and one.label == one.key.split("/")[0]
        if one.method == UNCHANGED:
            assert all(np.array_equal(image, original) for image in made)
            assert len(set(one.images)) == len(one.images)
            continue
        which = [
            repeat
            for image in made
            for repeat in (0, 1)
            if np.array_equal(image, stored[one.method, one.key, repeat])
        ]
        assert len(which) == len(made)
        shown.setdefault((one.kind, one.key), set()).add(tuple(which))
    assert all(len(which) == 1 for which in shown.values())  # the same repeats for all methods
    assert all(w == {(0, 1)} for (kind, _), w in shown.items() if kind == "diversity")

    asked = [one for one in study.questions.values() if one.method != UNCHANGED]  # balanced
    assert set(Counter((one.kind, one.method) for one in asked).values()) == {4}
    assert set(Counter((one.kind, one.method, one.label) for one in asked).values()) == {2}
    assert set(Counter(one.key for one in asked).values()) == {4}
    file = sqlite3.connect(study.path)
    for id, data in file.execute("SELECT id, data FROM image"):  # ids and files say nothing
        assert len(id) == 16 and int(id, 16) >= 0
        assert not Image.open(io.BytesIO(data)).info.keys() & {"exif", "xmp", "comment"}


def test_stores_that_are_not_complete_are_refused_with_the_command(stores, build, tmp_path, capsys):
    _, options = stores
    fewer = [one.replace("aug=[", "aug=[img2img_plain,") for one in options]
    assert build("--questions", "6", options=fewer) == 1
    error = capsys.readouterr().err
    assert "img2img_plain: not all images have been generated" in error
    assert "python run.py dataset=folder" in error and error.rstrip().endswith("stage=augment")
    assert not (tmp_path / "study").exists()


def test_mistakes_are_refused(stores, build, capsys):
    _, options = stores

    def refused(*more, **how) -> str:
        assert build(*more, **how) == 1
        return capsys.readouterr().err

    assert "did you mean sgid?" in refused(options=["aug=[sgidd]"])
    assert "aug=[randaugment] generates no images to rate" in refused(options=["aug=randaugment"])
    assert "enough for --questions" in refused("--questions", "4000")
    assert "one original takes 4" in refused("--questions", "3")
    assert build("--questions", "8") == 0
    assert "may hold ratings" in refused("--questions", "8")


def test_results_and_serve_without_a_study(tmp_path, capsys):
    for command in ("serve", "results"):
        assert main([command, str(tmp_path / "none")]) == 1
        assert "there is no such study" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
