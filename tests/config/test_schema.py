"""Every file of conf/ composes, alone and with others, and a dataset brings its own models."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from sgid.advise.candidates import expand
from sgid.config.compose import CONF
from sgid.config.schema import Config, Stage, register
from sgid.stages.validation import invalid_options

GROUPS = sorted(
    f"{file.parent.name}={file.stem}"
    for file in CONF.glob("*/*.yaml")
    # Of the last three see tests/test_every_choice.py.
    if file.parent.name not in ("hydra", "dataset", "backbone", "aug")
)


@pytest.fixture(autouse=True)
def conf():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> Config:
    config = OmegaConf.to_object(compose("config", list(overrides)))
    assert isinstance(config, Config)
    return config


@pytest.mark.parametrize("choice", GROUPS)
def test_each_choice(choice):
    composed(choice)


def test_the_default():
    config = composed()
    assert (config.stage, config.models.name, config.backbone.name) == (
        Stage.all, "tiny", "small_resnet"
    )  # fmt: skip
    assert list(config.aug) == ["sgid"] and config.logger == {}
    assert config.aug["sgid"]["guidance"] == config.guidance


def test_a_real_dataset_brings_real_models():
    config = composed("dataset=cars")
    assert (config.models.name, config.backbone.name) == ("sd15", "resnet50")
    config = composed("dataset=cars", "models=tiny", "backbone=vit")
    assert (config.models.name, config.backbone.name) == ("tiny", "vit")
    config = composed("models=tiny", "dataset=cars")
    assert config.models.name == "tiny"


@pytest.mark.parametrize(
    "names",
    [["none"], ["sgid", "randaugment"], ["sgid", "text2img_label", "mixup", "cutmix"], []],
)
def test_augmentations_add_up(names):
    assert list(composed(f"aug=[{','.join(names)}]").aug) == names
    assert len(names) != 1 or list(composed(f"aug={names[0]}").aug) == names


def test_the_short_names_reach_what_they_are_for():
    config = composed("noise_rate=0.3", "guidance.max=9", "guidance.min=2")
    sgid = config.aug["sgid"]
    assert (sgid["strength"], sgid["guidance"]["min"], sgid["guidance"]["max"]) == (0.3, 2, 9)


def test_paths_come_from_the_environment_unless_given(monkeypatch):
    for name in ("ARTIFACTS", "RESULTS", "DATA"):
        monkeypatch.setenv(f"SGID_{name}", f"/from/{name.lower()}")
    assert composed().paths.artifacts == "/from/artifacts"
    assert composed("paths.results=/given").paths.results == "/given"
    assert composed("dataset=cars").dataset.root == "/from/data/cars"


@pytest.mark.parametrize("experiment", sorted(f.stem for f in CONF.glob("experiment/*.yaml")))
def test_each_job_of_an_experiment(experiment):
    """Every value that an experiment sweeps over composes, and every candidate of a search."""
    whole = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    for options in expand(whole.advise.candidates):
        assert invalid_options(composed(*options)) == []
    parameters = whole.hydra.sweeper.get("params") or {}
    HydraConfig.instance().set_config(whole)
    for name, values in parameters.items():
        parsed = _parsed(f"{name}={values}")
        for value in parsed:
            composed(f"experiment={experiment}", f"{name}={value}")


def _parsed(override: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([override])
    if parsed.is_sweep_override():
        return list(parsed.sweep_string_iterator())
    return [parsed.get_value_element_as_str()]
