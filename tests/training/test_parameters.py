"""Layer by layer: rates, weight decay, and which layer each weight is of."""

from functools import partial

import pytest
import timm
import torch
from torch import nn

from sgid.training.backbones import head, make_optimizer
from sgid.training.clip_backbone import open_clip_model


def clip_tower(name, size=224):
    options = {"head": "random", "prompt": "{label}", "weights": None, "seed": 0}
    return open_clip_model(name=name, class_names="abc", image_size=size, **options)


def found(network, **options):
    """Name of each weight -> (learning rate, weight decay); each is in one group only."""
    build = partial(torch.optim.AdamW, lr=1.0, weight_decay=0.3)
    optimizer = make_optimizer(network, build, **options)
    names = {id(weight): name for name, weight in network.named_parameters()}
    rows = [
        (names[id(weight)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for weight in group["params"]
    ]
    assert len(rows) == len(names) == len(dict(rows))
    return dict(rows)


def test_without_a_decay_all_weights_are_treated_alike():
    assert set(found(timm.create_model("test_resnet"), layer_decay=None).values()) == {(1.0, 0.3)}


def test_layers_of_a_timm_transformer():
    rates = found(timm.create_model("test_vit"), layer_decay=0.5)  # of six blocks
    assert rates["head.weight"] == (1, 0.3) and rates["head.bias"] == (1, 0)
    for i in range(6):
        assert rates[f"blocks.{i}.attn.qkv.weight"] == (0.5 ** (6 - i), 0.3)
        assert rates[f"blocks.{i}.norm1.weight"] == (0.5 ** (6 - i), 0)
    assert rates["norm.weight"] == (0.5, 0)
    assert rates["patch_embed.proj.weight"] == (0.5**7, 0.3)
    assert rates["pos_embed"] == rates["cls_token"] == (0.5**7, 0)  # no vectors, but exempt


def test_layers_of_a_clip_transformer_are_those_of_timms():
    rates = found(clip_tower("ViT-S-32"), layer_decay=0.5)
    block = "visual.transformer.resblocks"
    for i in range(12):
        assert rates[f"{block}.{i}.attn.in_proj_weight"] == (0.5 ** (12 - i), 0.3)
        assert rates[f"{block}.{i}.ln_1.bias"] == (0.5 ** (12 - i), 0)
    assert rates["head.weight"] == (1, 0.3) and rates["head.bias"] == (1, 0)
    assert rates["visual.proj"] == (0.5, 0.3) and rates["visual.ln_post.weight"] == (0.5, 0)
    assert rates["visual.conv1.weight"] == (0.5**13, 0.3)
    assert rates["visual.positional_embedding"] == rates["visual.class_embedding"] == (0.5**13, 0)


def test_layers_of_a_clip_resnet():
    rates = found(clip_tower("RN50"), layer_decay=0.5)  # of 16 blocks
    assert rates["visual.conv1.weight"][0] == rates["visual.bn3.weight"][0] == 0.5**17
    assert rates["visual.layer1.0.conv1.weight"][0] == 0.5**16
    assert rates["visual.layer4.2.conv1.weight"][0] == rates["visual.attnpool.q_proj.weight"][0]
    assert rates["visual.layer4.2.conv1.weight"] == (0.5, 0.3) and rates["head.weight"] == (1, 0.3)


def test_layers_of_a_timm_model_as_a_clips_tower():
    tower = clip_tower("MobileCLIP-S1", 64)
    rates = found(tower, layer_decay=0.5)
    trunk = {
        name.removeprefix("visual.trunk."): rate
        for name, (rate, _) in rates.items()
        if name.startswith("visual.trunk.")
    }
    alone = found(tower.visual.trunk, layer_decay=0.5)
    ratios = {trunk[name] / alone[name][0] for name in trunk}
    assert rates["head.weight"] == (1, 0.3) and ratios == {0.5}  # one layer further down


def test_no_decay_at_all_leaves_vectors_without_weight_decay():
    rates = found(timm.create_model("test_resnet"), layer_decay=1.0)
    assert {rate for rate, _ in rates.values()} == {1.0}
    assert rates["fc.weight"][1] == 0.3 and rates["fc.bias"][1] == rates["bn1.weight"][1] == 0


def test_optimizers_keep_their_own_settings():
    build = partial(torch.optim.SGD, lr=0.2, momentum=0.9, nesterov=True)
    optimizer = make_optimizer(timm.create_model("test_resnet"), build, layer_decay=0.5)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0}
    assert max(group["lr"] for group in optimizer.param_groups) == 0.2
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)


def test_networks_without_known_layers():
    with pytest.raises(
        ValueError, match="backbone.layer_decay=0.5: the order of the layers of Lin"
    ):
        make_optimizer(nn.Linear(2, 2), torch.optim.SGD, layer_decay=0.5)


def test_two_heads_are_heads():
    network = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3)
    assert {id(layer) for layer in head(network)} == {id(network.head), id(network.head_dist)}
    assert list(head(timm.create_model("test_resnet"))) != []
