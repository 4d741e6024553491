"""The bundled models and images, loaded once for all tests that ask for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before any hub library is imported

# A test must not fail because the machine is busy.
settings.register_profile("sgid", deadline=None, max_examples=50)
settings.load_profile("sgid")

MODELS = Path(str(files("sgid") / "assets" / "models"))


@pytest.fixture(scope="session")
def fashion() -> Any:
    """24 of the bundled training images as an `ImageSet`, of all classes."""
    from sgid.data.sources.bundled import fashion

    listing = fashion().train
    count = len(listing.keys)
    return listing.images(listing.stamps).select(range(0, count, count // 24)[:24])


@pytest.fixture(scope="session")
def make_captioner() -> Callable[..., Any]:
    """`make_captioner(candidates=3)`: a fresh captioner with the bundled weights."""
    import torch

    from sgid.models.blip import BlipCaptioner
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()

    def make(**options: Any) -> BlipCaptioner:
        settings = {"candidates": 4, "top_p": 0.9, "max_tokens": 12, "seed": 0, "batch_size": 16}
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        return BlipCaptioner(MODELS / "blip", **{**settings, **place, **options})

    return make


@pytest.fixture(scope="session")
def make_scorer() -> Callable[..., Any]:
    """`make_scorer(batch_size=3)`: a fresh scorer with the bundled weights."""
    import torch

    from sgid.models.clip import OpenClipScorer
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()

    def make(batch_size: int = 16) -> OpenClipScorer:
        place = {"device": torch.device("cpu"), "dtype": torch.float64}
        return OpenClipScorer(MODELS / "clip", batch_size=batch_size, **place)

    return make


@pytest.fixture(scope="session")
def make_engine() -> Callable[..., Any]:
    """`make_engine(scheduler="DDIMScheduler")`: a fresh engine with the bundled weights."""
    import torch

    from sgid.generation.stable_diffusion import StableDiffusionEngine
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()

    def make(**options: Any) -> StableDiffusionEngine:
        settings = {"steps": 6, "resolution": 32, "batch_size": 16}
        settings |= {"scheduler": "DPMSolverMultistepScheduler"}
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        return StableDiffusionEngine(MODELS / "sd", **{**settings, **place, **options})

    return make
