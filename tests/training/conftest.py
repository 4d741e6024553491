"""The augmentations as `conf/aug/` names them, and real images to try them on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from sgid.config.compose import CONF
from sgid.config.schema import Config, register


@cache
def entry(name: str, *overrides: str) -> dict[str, Any]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", [f"aug=[{name}]", *overrides]))
    assert isinstance(config, Config)
    return config.aug[name]


@pytest.fixture(scope="session")
def make() -> Callable[..., tuple[str, Any]]:
    """`make("cutout", side=0.25)`: slot and transform of `aug=cutout`, as the train stage does."""

    def make(name: str, **options: Any) -> tuple[str, Any]:
        overrides = [f"aug.{name}.transform.{key}={value}" for key, value in options.items()]
        found = entry(name, *overrides)
        return found["slot"], instantiate(found["transform"])

    return make


@pytest.fixture(scope="session")
def coloured(fashion) -> list[Image.Image]:
    """Pictures in colour, 32 px: each has three of the bundled ones as red, green and blue."""
    greys = [fashion[i].image.convert("L").resize((32, 32)) for i in range(24)]
    return [Image.merge("RGB", greys[i : i + 3]) for i in range(0, 24, 3)]
