"""Pipelines written as one file, as checkpoints are shared: by the names of latent diffusion."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
}  # fmt: skip


def write_checkpoint(folder: Path, file: Path, **more: torch.Tensor) -> Path:
    """Write the pipeline in `folder` as one file, with what training leaves there, and `more`."""
    index = json.loads((folder / "model_index.json").read_text())
    xl = "text_encoder_2" in index
    tensors = {"model_ema.decay": torch.zeros(()), "alphas_cumprod": torch.zeros(1000)}
    config = json.loads((folder / "unet" / "config.json").read_text())
    unet = state(folder / "unet")
    tensors |= {f"model.diffusion_model.{unet_name(name, config)}": one
                for name, one in unet.items()}  # fmt: skip
    blocks = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    for name, one in state(folder / "vae").items():
        new = vae_name(name, blocks)
        squares = ".attn_1." in new and one.ndim == 2
        tensors[f"first_stage_model.{new}"] = one[:, :, None, None] if squares else one
    prefix = "conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer."
    for name, one in state(folder / "text_encoder").items():
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[prefix + name] = one
    if xl:
        second = state(folder / "text_encoder_2")
        tensors |= {f"conditioner.embedders.1.model.{name}": one
                    for name, one in open_clip(second).items()}  # fmt: skip
    save_file({name: one.contiguous().clone() for name, one in (tensors | more).items()}, file)
    return file


def state(part: Path) -> dict[str, Any]:
    (file,) = part.glob("*.safetensors")
    return load_file(file)


def unet_name(name: str, config: dict[str, Any]) -> str:
    """In latent diffusion all blocks of one way are numbered through."""
    for ours, theirs in ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    layers = config["layers_per_block"]
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, number, rest = found.groups()
        place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
        return f"{place}.{resnet(rest) if kind == 'resnets' else rest}"
    way, block, kind, number, rest = re.match(
        r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name
    ).groups()
    block, number = int(block), int(number)
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.{rest.replace('conv', 'op', 1)}"
    if kind == "upsamplers":
        attends = "Attn" in config["up_block_types"][block]
        return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends else 1}.{rest}"
    at = block * (layers + 1) + number
    place = f"input_blocks.{at + 1}" if way == "down" else f"output_blocks.{at}"
    return f"{place}.0.{resnet(rest)}" if kind == "resnets" else f"{place}.1.{rest}"


def resnet(rest: str) -> str:
    part, _, end = rest.rpartition(".")
    return f"{RESNET[part]}.{end}"


def vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if ".mid_block.attentions.0." in name:
        top, rest = name.split("mid_block.attentions.0.")
        part, _, end = rest.rpartition(".")
        return f"{top}mid.attn_1.{ATTENTION[part]}.{end}"
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)",
                  lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", name)  # fmt: skip
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0",
                  lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)  # fmt: skip


def open_clip(tensors: dict[str, Any]) -> dict[str, Any]:
    """A text encoder of transformers by the names of open_clip."""
    renamed = {"logit_scale": torch.zeros(())}
    for name, one in tensors.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            renamed["text_projection"] = one.T
        elif name in CLIP_ENDS:
            renamed[CLIP_ENDS[name]] = one
        elif not (found := re.match(r"encoder\.layers\.(\d+)\.(.+)\.(\w+)$", name)):
            raise KeyError(name)
        elif found[2].startswith("self_attn") and found[2] != "self_attn.out_proj":
            layer, place = found[1], f"encoder.layers.{found[1]}.self_attn"
            full = "text_model." * ("text_model." + name in tensors) + place
            parts = [tensors[f"{full}.{one}_proj.{found[3]}"] for one in "qkv"]
            renamed[f"transformer.resblocks.{layer}.attn.in_proj_{found[3]}"] = torch.cat(parts)
        else:
            place = f"transformer.resblocks.{found[1]}.{OPEN_CLIP[found[2]]}"
            renamed[f"{place}.{found[3]}"] = one
    return renamed
