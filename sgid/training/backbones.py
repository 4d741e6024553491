"""Classifiers: timm's models, and how they are adapted to small images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.augmentation.sizes import SMALL

if TYPE_CHECKING:
    from torch import nn


def timm_model(
    *, name: str, num_classes: int, image_size: int, weights: Path | None, seed: int
) -> nn.Module:
    """Any timm model; `weights` is a folder with a safetensors file, `None` trains from scratch.

    ResNets on small images get the CIFAR stem of He et al. (2016): a 3×3 convolution of stride 1
    and no max pooling, in place of the 7×7 of stride 2 and pooling that would leave 32 px at 1×1.
    With `weights` they keep the stem that the weights are for.

    Raises:
        ValueError: if timm has no such model, or the file holds the weights of another one.
    """
    import timm
    import torch
    from torch import nn

    if not timm.is_model(name):
        raise ValueError(f"backbone.model.name={name}: not in timm; see timm.list_models()")
    # Transformers fix their image size when they are made; convolutional networks take any.
    config = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = {"img_size": image_size} if config and config.fixed_input_size else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False, num_classes=num_classes, **size)
        if weights is not None:
            torch.manual_seed(seed)
            return _pretrained(model, name, weights, num_classes=num_classes, **size)
        if isinstance(model, timm.models.resnet.ResNet) and image_size <= SMALL:
            old = model.conv1
            if not isinstance(old, nn.Conv2d):
                return model
            model.conv1 = nn.Conv2d(3, old.out_channels, 3, stride=1, padding=1, bias=False)
            model.maxpool = nn.Identity()
    return model


def _pretrained(blank: nn.Module, name: str, weights: Path, **options: Any) -> nn.Module:
    """`name` with all weights but the head's from the safetensors file in the folder `weights`.

    `blank` is the same model as it is made with the same random numbers and no file.
    """
    import timm
    import torch

    file = min(weights.glob("*model.safetensors"))  # timm's own before open_clip's
    # No classes: timm then always leaves out the file's head, of whatever size it is. It passes
    # over names that it does not find, too, and would train from scratch without a word.
    overlay = {"file": str(file), "num_classes": 0, "custom_load": False}
    model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    head = {id(weight) for weight in model.get_classifier().parameters()}
    left = [
        key
        for (key, weight), old in zip(model.named_parameters(), blank.parameters(), strict=True)
        if id(weight) not in head and weight.std(correction=0) > 0 and torch.equal(weight, old)
    ]
    if left:
        raise ValueError(
            f"{file} has no weights for {len(left)} tensors of {name} ({', '.join(left[:3])} ...): "
            "it is another model's; change backbone.weights or backbone.model.name"
        )
    return model


def small_resnet(
    *, num_classes: int, image_size: int, weights: Path | None, seed: int, width: int = 16
) -> nn.Module:
    """A ResNet of four one-block stages of `width`, 2, 4 and 8 times `width` channels.

    timm's own ResNet class with a deep 3×3 stem of stride 2; small images go without max pooling.
    """
    import torch
    from timm.models.resnet import BasicBlock, ResNet
    from torch import nn

    if weights is not None:
        raise ValueError("backbone=small_resnet is trained from scratch; unset backbone.weights")
    block: Any = BasicBlock  # timm annotates the class as an instance
    channels = (width, 2 * width, 4 * width, 8 * width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ResNet(
            block,
            layers=(1, 1, 1, 1),
            channels=channels,
            num_classes=num_classes,
            stem_type="deep",
            stem_width=width // 2,
        )
        if image_size <= SMALL:
            model.maxpool = nn.Identity()
    return model


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that the model expects, of pixels in [0, 1]."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    config = getattr(model, "pretrained_cfg", None) or {}
    return config.get("mean", IMAGENET_DEFAULT_MEAN), config.get("std", IMAGENET_DEFAULT_STD)
