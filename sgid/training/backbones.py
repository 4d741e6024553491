"""Classifier networks from timm, adapted to small images, and their trained parameter groups."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sgid.data.image_set import ImageSet
from sgid.runtime.terminal import quiet
from sgid.training.transforms import SMALL, training_size

log = logging.getLogger(__name__)


def timm_model(
    *,
    name: str,
    class_names: Sequence[str],
    image_size: int,
    weights: Path | None,
    seed: int,
    **options: Any,
) -> nn.Module:
    """Any timm model; `weights` is a folder with a safetensors file, `None` trains from scratch.

    `options` are the model's own, such as `drop_path_rate`. From scratch, ResNets on small images
    keep the resolution (see `_keep_resolution`); with `weights` they keep what these are for.

    Raises:
        ValueError: if timm has no such model, or the file holds the weights of another one.
    """
    import timm
    import torch

    # Transformers fix their image size when they are made; convolutional networks take any.
    if _pretrained_config(name).fixed_input_size:
        options["img_size"] = image_size
    options["num_classes"] = len(class_names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False, **options)
        if weights is not None:
            torch.manual_seed(seed)
            model = _pretrained(model, name, weights, **options)
        elif image_size <= SMALL:
            _keep_resolution(model, name, image_size)
    return model


def own_size(model: Any, weights: Path | None) -> int | None:
    """Side, in pixels, of the images that a backbone needs; `None` if it takes any.

    That is what its weights were trained on; from scratch, what a transformer has positions for.
    `model` is the partial that the config gives.
    """
    from sgid.training import clip_backbone as clip

    if model.func is clip.open_clip_model:
        return clip.own_size(model.keywords["name"], weights)
    if model.func is timm_model:
        config = _pretrained_config(model.keywords["name"])
        return config.input_size[-1] if weights or config.fixed_input_size else None
    return None


def _pretrained_config(name: str) -> Any:
    """timm's configuration of pretrained weights: size and normalisation of their images.

    Raises:
        ValueError: if timm has no such model, or no such weights of it.
    """
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3)
        mean = f", did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"backbone.model.name={name}: not in timm{mean}; see timm.list_models()")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = timm.list_pretrained(f"{architecture}.*")
        raise ValueError(
            f"backbone.model.name={name}: timm knows no weights {tag} of {architecture}; there are "
            f"{', '.join(known)}"
        ) from None
    return config or timm.models.PretrainedCfg()


def _pretrained(blank: nn.Module, name: str, weights: Path, **options: Any) -> nn.Module:
    """Load `name` with all weights but the head's from the safetensors file in `weights`.

    `blank` is the same model as it is made with the same random numbers and no file.
    """
    import timm
    import torch

    quiet()
    # timm's own before open_clip's
    names = ("model.safetensors", "open_clip_model.safetensors")
    file = next((weights / one for one in names if (weights / one).is_file()), None)
    if file is None:
        raise ValueError(f"{weights} holds its weights in shards, which timm does not read")
    # No classes: timm then always leaves out the file's head, of whatever size it is. It passes
    # over names that it does not find, too, and would train from scratch without a word.
    overlay = {"file": str(file), "num_classes": 0, "custom_load": False}
    model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    new = {id(weight) for weight in head(model).parameters()}
    left = [
        key
        for (key, weight), old in zip(model.named_parameters(), blank.parameters(), strict=True)
        if id(weight) not in new and weight.std(correction=0) > 0 and torch.equal(weight, old)
    ]
    if left:
        raise ValueError(
            f"{file} has no weights for {len(left)} tensors of {name} ({', '.join(left[:3])} ...): "
            "it is another model's; change backbone.weights or backbone.model.name"
        )
    return model


def _keep_resolution(model: Any, name: str, image_size: int) -> None:
    """Give a ResNet the CIFAR stem of He et al. (2016): stride 1 and no max pooling.

    The usual stem, a 7×7 convolution of stride 2, becomes a 3×3 one; of a deep stem, which is 3×3
    already, the stride goes. Otherwise 32 px would end at 1×1, as they do in other networks, which
    is logged.
    """
    from timm.models.resnet import ResNet
    from torch import nn

    if not isinstance(model, ResNet):
        info = getattr(model, "feature_info", None)
        if info and image_size // info[-1]["reduction"] < 2:
            log.warning(
                "backbone.model.name=%s leaves %d px images no more than 1×1 places; "
                "backbone.image_size=224 enlarges them", name, image_size,
            )  # fmt: skip
        return
    if isinstance(model.conv1, nn.Sequential):
        first: Any = model.conv1[0]
        first.stride = (1, 1)
    else:
        model.conv1 = nn.Conv2d(3, model.conv1.out_channels, 3, padding=1, bias=False)
        # As timm's ResNet draws its convolutions (He et al., 2015).
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def small_resnet(
    *,
    class_names: Sequence[str],
    image_size: int,
    weights: Path | None,
    seed: int,
    width: int = 16,
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
            num_classes=len(class_names),
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


def image_size(make_network: Any, weights: Path | None, images: ImageSet) -> int:
    """The side, in pixels, of the images that a network sees: its own, or that of the images."""
    return own_size(make_network, weights) or training_size(images)


TRAINED = ("all", "head")


def head(network: Any) -> nn.ModuleList:
    """The classifier of a network: one linear layer, or two in distilled transformers."""
    layers = network.get_classifier()
    return nn.ModuleList(layers if isinstance(layers, list | tuple) else [layers])


def freeze_all_but_head(network: nn.Module) -> None:
    network.requires_grad_(False)
    head(network).requires_grad_(True)


def make_optimizer(
    network: nn.Module,
    build: Callable[[Any], torch.optim.Optimizer],
    *,
    layer_decay: float | None,
) -> torch.optim.Optimizer:
    """Build the optimizer of all weights that are not frozen.

    Without `layer_decay` they are one group. With it they are timm's groups for fine-tuning (as in
    BEiT, Bao et al., 2022): the head learns at the rate that `build` gives, each layer below at
    `layer_decay` times the rate of the one above; biases, norms and embeddings of positions and
    classes have no weight decay. 1 does the latter alone.

    Raises:
        ValueError: if `layer_decay` is given for a network whose layers have no known order.
    """
    if layer_decay is None:
        return build([weight for weight in network.parameters() if weight.requires_grad])
    from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]

    if not hasattr(network, "group_matcher"):
        kind = type(network).__name__
        raise ValueError(
            f"backbone.layer_decay={layer_decay}: the order of the layers of {kind} is not known; "
            "set it to null"
        )
    exempt: Iterable[str] = getattr(network, "no_weight_decay", set)()
    groups = param_groups_layer_decay(
        network, weight_decay=1.0, no_weight_decay_list=set(exempt), layer_decay=layer_decay
    )
    optimizer = build(groups)
    for group in optimizer.param_groups:
        # So far the decay is a factor, 1 or 0: which optimizer it is decides of how much.
        group["lr"] = optimizer.defaults["lr"] * group["lr_scale"]
        group["weight_decay"] *= optimizer.defaults.get("weight_decay", 0.0)
    return optimizer
