"""Models stay in memory from run to run, as long as they are the same ones."""

from __future__ import annotations

import shutil

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sgid.config.compose import CONF
from sgid.config.schema import Config, register
from sgid.models.loader import Loaded, Models
from sgid.stages.run import prepare


@pytest.fixture
def loaded() -> Loaded:
    return Loaded()


def models(loaded: Loaded, *overrides: str) -> Models:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", ["trainer.device=cpu", *overrides]))
    assert isinstance(config, Config)
    return prepare(config, {}, [], loaded=loaded).models


def test_the_next_run_has_the_models_of_the_one_before(loaded):
    first, again = models(loaded), models(loaded, "seed=1", "noise_rate=0.3", "expansion=2")
    assert again.generator is first.generator
    assert again.scorer is first.scorer
    assert models(Loaded()).scorer is not first.scorer


def test_steps_are_set_without_loading_anew(loaded):
    engine = models(loaded, "steps=20").generator
    assert engine.steps == 20
    assert models(loaded, "steps=7").generator is engine
    assert engine.steps == 7


@pytest.mark.parametrize(
    "override", ["models.generator.scheduler=DDIMScheduler", "models.generator.dtype=bfloat16"]
)
def test_what_a_model_is_made_with_loads_it_anew_and_lets_the_old_one_go(loaded, override):
    first = models(loaded).generator
    other = models(loaded, override).generator
    assert other is not first
    assert models(loaded).generator is not first


def test_weights_that_have_changed_in_their_place_are_read_again(loaded, tmp_path):
    folder = tmp_path / "clip"
    at = f"models.scorer.weights.path={folder}"
    shutil.copytree(models(loaded).weights["models.scorer"].folder, folder)
    first = models(loaded, at).scorer
    assert models(loaded, at).scorer is first
    with (folder / "open_clip_config.json").open("a") as file:
        file.write("\n")
    assert models(loaded, at).scorer is not first
