"""Places to run commands in, and small sets of images to run them on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.writers import write_folder
from tests.end_to_end.command import SHORT, Place


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """16 images of two classes, of the size that the bundled models know."""
    return write_folder(tmp_path_factory.mktemp("images"), {"bag": 8, "coat": 8}, size=32)


@pytest.fixture(scope="session")
def own(images) -> tuple[str, ...]:
    """Options for a run of seconds on these images with the bundled models."""
    return (
        "dataset=folder", f"dataset.root={images}", "models=tiny", "backbone=small_resnet", *SHORT
    )  # fmt: skip
