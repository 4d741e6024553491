"""The backbones of conf/, composed as a run composes them, and really trained a little."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchvision.transforms.v2.functional import pil_to_tensor

from sgid.config.compose import CONF
from sgid.config.schema import BackboneConfig, register
from sgid.training.backbones import normalisation, own_size
from sgid.training.classifier import Classifier
from tests.conftest import MODELS

NAMES = sorted(file.stem for file in (CONF / "backbone").glob("*.yaml"))
CLASSES = ("t-shirt", "trousers", "ankle boot")
BUNDLED = {"small_clip": MODELS / "clip", "small_vit": MODELS / "vit"}


def recipe(name: str, *overrides: str) -> BackboneConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", [f"backbone={name}", *overrides]))
    return config.backbone


def network(backbone: BackboneConfig, *, size: int, weights: Path | None = None, names=CLASSES):
    build = instantiate(backbone.model)
    return build(class_names=names, image_size=size, weights=weights, seed=0)


def classifier(backbone: BackboneConfig, model: torch.nn.Module) -> Classifier:
    made = Classifier(
        model,
        optimizer=instantiate(backbone.optimizer),
        trained=backbone.trained,
        layer_decay=backbone.layer_decay,
        steps=2,
        warmup=0.0,
        label_smoothing=backbone.label_smoothing,
        batch_transform=None,
        num_classes=len(CLASSES),
    )
    made.log = lambda *args, **options: None
    return made


def train(made: Classifier, *, size: int, steps: int) -> list[float]:
    """The loss of each step, on two random images."""
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    optimizer = made.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = made.training_step((images, torch.tensor([0, 2])), 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 23.5),
        *(pytest.param(name, 85.8, marks=pytest.mark.slow) for name in ("vit", "clip_vit")),
    ],
)
def test_full_size_backbones_are_trained(name, parameters):
    backbone = recipe(name, "backbone.weights=null")
    assert (backbone.image_size or 224) == 224
    made = classifier(backbone, network(backbone, size=224))
    weights = dict(made.network.named_parameters())
    assert sum(weight.numel() for weight in weights.values()) / 1e6 == pytest.approx(
        parameters, abs=0.1
    )
    before = {key: weight.detach().clone() for key, weight in weights.items()}
    losses = train(made, size=224, steps=1)
    assert all(0 < loss < 10 for loss in losses)
    moved = [key for key, weight in weights.items() if not torch.equal(weight, before[key])]
    # Residual branches that begin at zero hold back what is before them for a step.
    assert len(moved) > len(weights) / 3 and {*moved} >= {key for key in weights if "head" in key}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_backbones_are_trained_from_their_weights(name):
    backbone = recipe(name)
    assert Path(backbone.weights.path) == BUNDLED[name]
    made = classifier(backbone, network(backbone, size=32, weights=BUNDLED[name]))
    losses = train(made, size=32, steps=12)
    assert losses[-1] < 0.3 * losses[0]
    mean, std = normalisation(made.network)
    assert (*mean, *std) == (0.5,) * 6  # as they were pre-trained


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_all_that_it_does(name):
    """So that a changed default cannot change what an old fingerprint stands for."""
    stated = set(OmegaConf.load(CONF / "backbone" / f"{name}.yaml"))
    assert stated == set(OmegaConf.structured(BackboneConfig))


def test_any_timm_model_has_the_weights_of_its_name():
    backbone = recipe("timm", "backbone.model.name=test_vit.r160_in1k")
    assert (backbone.weights.layout, backbone.weights.id) == ("timm", "timm/test_vit.r160_in1k")
    assert own_size(instantiate(backbone.model), Path()) == 160
    scratch = recipe("timm", "backbone.model.name=test_resnet", "backbone.weights=null",
                     "+backbone.model.drop_rate=0.5")  # fmt: skip
    made = classifier(scratch, network(scratch, size=64))
    assert made.network.drop_rate == 0.5
    assert all(0 < loss < 10 for loss in train(made, size=64, steps=2))


def test_any_clip_of_open_clips():
    backbone = recipe("open_clip", "backbone.model.name=ViT-S-32", "backbone.weights=null",
                      "backbone.model.head=random")  # fmt: skip
    made = classifier(backbone, network(backbone, size=64))
    assert all(0 < loss < 10 for loss in train(made, size=64, steps=2))


def test_the_scorer_and_the_backbone_name_the_same_clip():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["backbone=open_clip", "models=sd15"])
    assert config.backbone.weights == config.models.scorer.weights


def test_a_zero_shot_head_knows_clothing_before_any_training(fashion):
    backbone = recipe("small_clip", "backbone.model.head=zero_shot")
    model = network(backbone, size=32, weights=MODELS / "clip", names=fashion.class_names)
    made = classifier(backbone, model).eval()
    images = torch.stack([pil_to_tensor(fashion[i].image) for i in range(len(fashion))])
    with torch.no_grad():
        right = made(images).argmax(1) == torch.tensor([fashion[i].label for i in range(24)])
    assert right.float().mean() > 0.6  # of ten classes; 0.86 on the whole validation part
