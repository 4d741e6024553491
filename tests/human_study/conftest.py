"""A small study made by hand, and one of real stores."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgid.human_study.questions import KINDS, UNCHANGED, Question
from sgid.human_study.study import FILE, Picture, Study, write_study
from tests.data.writers import write_folder
from tests.end_to_end.command import SHORT, Place

METHODS = ("sgid", "text2img_label", "img2img_label")
ORIGINALS = 4


def picture(seed: int) -> Picture:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    return Picture(32, 32, buffer.getvalue())


def questions(originals: int = ORIGINALS, methods: tuple[str, ...] = METHODS) -> list[Question]:
    """Both kinds for all of them, and a check of each; the images are of ids made of numbers."""
    wanted = [
        (kind, method, original)
        for kind in KINDS
        for method in (*methods, UNCHANGED)
        for original in range(1 if method == UNCHANGED else originals)
    ]
    return [
        Question(i, kind, method, f"key{original}", f"a <b> & {original % 2}", (f"{i}a", f"{i}b"))
        for i, (kind, method, original) in enumerate(wanted, 1)
    ]


@pytest.fixture
def study(tmp_path) -> Study:
    """26 questions about four originals: three methods, two kinds, two checks."""
    asked = questions()
    pictures = {id: picture(i) for i, one in enumerate(asked) for id in one.images}
    about = {"dataset": "fashion", "methods": list(METHODS), "seed": 0}
    write_study(tmp_path / "study" / FILE, about, pictures, asked)
    return Study(tmp_path / "study")


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> tuple[Place, list[str]]:
    """Complete stores of two methods, drawn by the bundled models; and the options for them."""
    place = Place(tmp_path_factory.mktemp("stores"))
    images = write_folder(place.top / "images", {"bag": 6, "coat": 6}, size=32)
    options = ["dataset=folder", f"dataset.root={images}", "models=tiny"]
    options += ["backbone=small_resnet", *SHORT, "expansion=2"]
    options += ["aug=[text2img_label,img2img_label]"]
    place.run(*options, "stage=augment").good()
    return place, options


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "rated"
