"""The benchmark of a GPU, small and on a CPU: its arms run, and it counts as it should."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from experiments.benchmarks import gpu
from experiments.benchmarks.shapes import SHAPES, unet_flops


@pytest.mark.slow
def test_it_runs_and_leaves_its_figures(tmp_path, monkeypatch):
    options = "--shapes tiny --images 4 --alone 1 --sizes 2 --compile none --compiled-size 2"
    monkeypatch.setattr(
        sys, "argv", ["gpu", *options.split(), "--rounds", "1", "--out", str(tmp_path)]
    )
    gpu.main()
    said = json.loads((tmp_path / "gpu-tiny.json").read_text())
    arms = {gpu.ALONE, "batches of 2", gpu.AUTO}
    assert set(said["images_per_second"]) == set(said["first"]) == arms
    assert all(one > 0 for one in said["flops_per_second"].values())
    assert (tmp_path / "gpu-tiny.png").is_file() and "TFLOP/s" in (
        tmp_path / "gpu-tiny.md"
    ).read_text()


def test_the_shapes_are_those_of_stable_diffusion():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    shape = SHAPES["sd15"]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape.unet)
        vae = AutoencoderKL(latent_channels=4, **shape.vae)
    assert sum(one.numel() for one in unet.parameters()) == 859_520_964
    assert sum(one.numel() for one in vae.parameters()) == 83_653_863


def test_arithmetic_is_what_the_layers_add_up_to():
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

    shape = SHAPES["tiny"]
    unet = UNet2DConditionModel(**shape.unet)
    total = 0

    def look(layer, inputs, told, output):
        nonlocal total
        if isinstance(layer, torch.nn.Conv2d):
            total += 2 * output.numel() * layer.weight[0].numel()
        elif isinstance(layer, torch.nn.Linear):
            total += 2 * output.numel() * layer.in_features
        elif isinstance(layer, Attention):  # queries by keys, and what comes of it by values
            queries, words = inputs[0], told.get("encoder_hidden_states")
            keys = (queries if words is None else words).shape[1]
            total += 2 * 2 * queries.shape[1] * keys * layer.inner_dim

    for layer in unet.modules():
        layer.register_forward_hook(look, with_kwargs=True)
    side, width = shape.unet["sample_size"], shape.unet["cross_attention_dim"]
    with torch.no_grad():
        unet(torch.zeros(1, 4, side, side), 5, encoder_hidden_states=torch.zeros(1, 77, width))
    assert unet_flops(shape) == total
