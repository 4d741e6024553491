"""The picture of all augmentations shows what a run trains on."""

from __future__ import annotations

import os
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from experiments import case_study
from sgid.data.decode import decode
from sgid.reporting import image_grids as grid
from tests.end_to_end.command import SHORT


def test_every_augmentation_is_a_row_and_generated_ones_are_those_of_the_store(
    place, images, tmp_path
):
    options = ["dataset=folder", f"dataset.root={images}", "models=tiny", "backbone=small_resnet"]
    options += SHORT
    place.run(*options, "stage=augment", "aug=[sgid,text2img_label]").good()
    stored = {
        (row["method"], row["key"]): decode(row["image"]["bytes"])
        for file in place.artifacts.glob("generated/*/part-*.parquet")
        for row in pq.read_table(file).to_pylist()
    }
    drawn = {}
    draw = grid.augmentation_grid

    def watched(originals, rows, titles):
        drawn.update(rows)
        assert len(originals) == len(titles) == case_study.ACROSS
        return draw(originals, rows, titles)

    path = tmp_path / "picture.png"
    with (
        mock.patch.dict(os.environ, place.environment, clear=True),
        mock.patch.object(grid, "augmentation_grid", watched),
    ):
        assert case_study.main(["--output", str(path), *options]) == 0
    assert list(drawn) == case_study.every_augmentation() and len(drawn) >= 21
    with Image.open(path) as picture:
        assert picture.height > 21 * 30
    for method in ("sgid", "text2img_label"):
        originals = [image for (name, _), image in stored.items() if name == method]
        for made in drawn[method]:
            # Another batch may round differently.
            nearest = min(
                int(np.abs(np.asarray(made, int) - np.asarray(one, int)).max()) for one in originals
            )
            assert nearest <= 1
    pixels = {name: np.stack([np.asarray(one) for one in row]) for name, row in drawn.items()}
    assert all(one.shape == (case_study.ACROSS, 32, 32, 3) for one in pixels.values())
    assert len({one.tobytes() for one in pixels.values()}) == len(pixels)


def test_mistakes_are_told(place, capsys):
    with mock.patch.dict(os.environ, place.environment, clear=True):
        assert case_study.main(["aug=[sgidd]"]) == 1
    assert "did you mean sgid?" in capsys.readouterr().err
