"""IP-Adapters, image encoders, ControlNets and editing UNets of small size and random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.generation.small_pipelines import edit_index, edit_unet, write_sd

WIDTH = 32  # of the image encoder
EMBEDDING = 24  # of its projection


def write_image_encoder(folder: Path) -> Path:
    """CLIP's image tower for images of 32 px."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        image_size=32, patch_size=8, projection_dim=EMBEDDING,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def write_ip_adapter(file: Path, pipeline: Path, *, kind: str = "plain", seed: int = 2) -> Path:
    """An IP-Adapter for the UNet of a pipeline, in the layout of its authors."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(seed)
    unet: Any = UNet2DConditionModel.from_pretrained(pipeline, subfolder="unet")
    width = unet.config.cross_attention_dim
    state = {}
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for place, name in enumerate(names):
        shape = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
        for layer in ("to_k_ip", "to_v_ip"):
            state[f"ip_adapter.{2 * place + 1}.{layer}.weight"] = torch.randn(shape) / 8
    if kind == "plain":
        state["image_proj.proj.weight"] = torch.randn(4 * width, EMBEDDING)
        state["image_proj.proj.bias"] = torch.randn(4 * width)
        state["image_proj.norm.weight"] = torch.ones(width)
        state["image_proj.norm.bias"] = torch.zeros(width)
    else:
        resampler = IPAdapterPlusImageProjection(
            embed_dims=WIDTH, output_dims=width, hidden_dims=64, depth=4, heads=1, num_queries=6
        )
        state |= _plus(resampler.state_dict())
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.contiguous() for name, one in state.items()}, file)
    return file


def _plus(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' names of a resampler's tensors to those of the authors."""
    names = {
        "ln0": "0.norm1", "ln1": "0.norm2", "attn.to_q": "0.to_q", "attn.to_out.0": "0.to_out",
        "ff.0": "1.0", "ff.1.net.0.proj": "1.1", "ff.1.net.2": "1.3",
    }  # fmt: skip
    found = {}
    for name, tensor in state.items():
        if not name.startswith("layers."):
            found[f"image_proj.{name}"] = tensor
            continue
        layer, (rest, _, what) = name.split(".")[1], name.split(".", 2)[2].rpartition(".")
        if rest == "attn.to_k":
            other = state[name.replace("to_k", "to_v")]
            found[f"image_proj.layers.{layer}.0.to_kv.{what}"] = torch.cat([tensor, other])
        elif rest != "attn.to_v":
            found[f"image_proj.layers.{layer}.{names[rest]}.{what}"] = tensor
    return found


def write_controlnet(folder: Path, pipeline: Path, *, halvings: int = 2) -> Path:
    """A ControlNet for the UNet of a pipeline, whose last layers are random, not zero."""
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(3)
    unet: Any = UNet2DConditionModel.from_pretrained(pipeline, subfolder="unet")
    channels = (8, 16, 16, 16, 16)[: halvings + 1]
    net: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels)
    for name, weight in net.named_parameters():
        if "controlnet_" in name and weight.abs().sum() == 0:
            torch.nn.init.normal_(weight, std=0.1)
    net.save_pretrained(folder)
    return folder


def write_editor(folder: Path) -> Path:
    """An InstructPix2Pix of the bundled parts, whose UNet takes the image's latents as well."""
    write_sd(folder)
    torch.manual_seed(4)
    edit_unet(folder, in_channels=16)
    edit_index(folder, _class_name="StableDiffusionInstructPix2PixPipeline")
    return folder
