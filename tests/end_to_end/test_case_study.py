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

SHOWN = ["none", "flip_crop", "randaugment", "mixup", "sgid", "text2img_label", "genie"]


def test_all_that_learn_nothing_first_are_shown():
    names = case_study.every_augmentation()
    assert {*SHOWN, "gif", "augmix"} < set(names) and "da_fusion" not in names
    assert case_study.chosen([]) == [f"aug=[{','.join(names)}]"]


def test_augmentations_are_rows_and_generated_ones_are_those_of_the_store(place, images, tmp_path):
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
        aug = f"aug=[{','.join(SHOWN)}]"
        assert case_study.main(["--output", str(path), *options, aug]) == 0
    assert sorted(drawn) == sorted(SHOWN)
    with Image.open(path) as picture:
        assert picture.height > len(SHOWN) * 30
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
