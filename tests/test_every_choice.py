"""Every dataset, every backbone with every augmentation: composed, checked, instantiated."""

import json
from dataclasses import asdict, replace
from functools import cache
from itertools import cycle
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sgid.config.compose import CONF
from sgid.config.schema import SLOTS, Config, in_slot, register
from sgid.stages.run import methods
from sgid.stages.validation import invalid_options
from sgid.training.backbones import make_optimizer, own_size

DATASETS, BACKBONES, AUGS = (
    sorted(file.stem for file in CONF.glob(f"{group}/*.yaml"))
    for group in ("dataset", "backbone", "aug")
)
# What the project promises: a file more is a choice more, a file less is a broken promise.
PROMISED = {
    "dataset": "cifar10 cifar100 cars caltech101 flowers pets dtd food aircraft stl10 cub "
    "tiny_imagenet fashion_mnist fashion folder hub",
    "backbone": "resnet50 vit clip_vit timm open_clip small_resnet small_vit small_clip",
    "aug": "none flip_crop cutout random_erasing mixup cutmix autoaugment randaugment "
    "trivialaugment augmix gridmask text2img_label text2img_caption img2img_label img2img_caption "
    "img2img_plain sgid no_label no_caption fixed_guidance random_caption genie "
    "da_fusion_plain real_guidance disef discl alia diagen genie_ada gif distdiff feedback_guided "
    "noise_cutmix diff_ii da_fusion diff_mix diff_aug real_mix datadream real_fake "
    "dalda saspa alia_edit",
    "models": "tiny sd15 sd21 sd_turbo sdxl sdxl_turbo any instruct_pix2pix",
    "filter": "none label band above_chance quantile reviewed",
}


def composed(*overrides: str) -> Config:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", list(overrides)))
    assert isinstance(config, Config)
    return config


@cache
def make_network(settings: str) -> None:
    """Instantiate a backbone, with random weights where its own are not bundled."""
    backbone = json.loads(settings)
    path = (backbone["weights"] or {}).get("path")
    model = backbone["model"]
    if path is None and "head" in model:
        model |= {"head": "random", "name": "ViT-B-32"}  # what else its weights would tell
    build, weights = instantiate(model), path and Path(path)
    size = backbone["image_size"] or own_size(build, weights) or 32
    network = build(
        class_names=("rose", "tulip", "daisy"), image_size=size, weights=weights, seed=0
    )
    make_optimizer(network, instantiate(backbone["optimizer"]), layer_decay=backbone["layer_decay"])


@cache
def make_augmentation(settings: str) -> None:
    aug = json.loads(settings)
    made = [*methods(aug)]
    made += [
        instantiate(entry["transform"])
        for slot in SLOTS[1:]
        for entry in in_slot(aug, slot).values()
    ]
    assert len(made) == 1


@pytest.mark.parametrize("group", PROMISED)
def test_what_is_promised_is_there(group):
    files = {file.stem for file in CONF.glob(f"{group}/*.yaml")}
    assert set(PROMISED[group].split()) <= files


@pytest.mark.parametrize(("dataset", "backbone"), list(zip(DATASETS, cycle(BACKBONES))))
def test_every_dataset_and_backbone(dataset, backbone):
    """They change no option of each other's: each is taken once or twice."""
    assert len(DATASETS) >= len(BACKBONES)
    config = composed(f"dataset={dataset}", f"backbone={backbone}")
    assert (config.dataset.name, config.backbone.name) == (dataset, backbone)
    assert invalid_options(config) == []
    make_network(json.dumps(asdict(config.backbone), sort_keys=True))


@pytest.mark.parametrize("dataset", ["fashion", "cars"])
def test_every_augmentation(dataset):
    """An augmentation fills a key of its own, so that one composition holds all of them."""
    config = composed(f"dataset={dataset}", f"aug=[{','.join(AUGS)}]")
    assert list(config.aug) == AUGS
    for name, entry in config.aug.items():
        one = replace(config, aug={name: entry})
        assert invalid_options(one) == []
        assert sum(len(in_slot(one.aug, slot)) for slot in SLOTS) == 1
        make_augmentation(json.dumps(one.aug))
