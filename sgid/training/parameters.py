"""Which weights of a network are trained, and how fast each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

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
    """The optimizer of all weights that are not frozen.

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
