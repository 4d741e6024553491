"""Stable Diffusion of random weights, in the published shapes or small, and requests to draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.models.captions import vocabulary
from experiments.models.clothing import CLOTHING
from experiments.models.tokenizers import clip_tokenizer
from sgid.records import Described, Request

REPEATS = 5


@dataclass(frozen=True)
class Shape:
    """`side` is that of the images in pixels; the rest are the arguments of each part's class."""

    side: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    product: int
    """Side of the large matrices to compare with."""


_FOUR = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
SHAPES = {
    "sd15": Shape(
        side=512,
        unet={"sample_size": 64, "cross_attention_dim": 768},  # the rest are the class's defaults
        vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, **_FOUR},
        text={
            "vocab_size": 49_408, "hidden_size": 768, "intermediate_size": 3072,
            "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77,
        },
        product=8192,
    ),
    "tiny": Shape(
        side=64,
        unet={
            "sample_size": 8, "cross_attention_dim": 32, "block_out_channels": (8, 8, 16, 16),
            "norm_num_groups": 4, "attention_head_dim": 2, "layers_per_block": 1,
        },
        vae={"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, **_FOUR},
        text={
            "vocab_size": 1_000, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 77,
        },
        product=256,
    ),
}  # fmt: skip


def write(folder: Path, shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Path:
    """A `StableDiffusionImg2ImgPipeline`, its weights drawn on `device`."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionImg2ImgPipeline,
        UNet2DConditionModel,
    )  # fmt: skip
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder / "tokenizer", vocabulary(CLOTHING, folder))
    tokenizer.model_max_length = shape.text["max_position_embeddings"]
    with torch.device(device):
        unet: Any = UNet2DConditionModel(**shape.unet)
        vae: Any = AutoencoderKL(latent_channels=4, sample_size=shape.side, **shape.vae)
        text: Any = CLIPTextModel(CLIPTextConfig(**shape.text, hidden_act="quick_gelu"))
    pipe = StableDiffusionImg2ImgPipeline(
        vae=vae.to(dtype), text_encoder=text.to(dtype), tokenizer=tokenizer, unet=unet.to(dtype),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def unet_flops(shape: Shape) -> int:
    """Multiplications and additions of the UNet for one row of latents, without any weights.

    Of matrix products, convolutions and attention, as PyTorch counts them; the rest is little.
    """
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**shape.unet)
        side = shape.unet["sample_size"]
        latents = torch.empty(1, 4, side, side)
        text = torch.empty(
            1, shape.text["max_position_embeddings"], shape.unet["cross_attention_dim"]
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(latents, torch.zeros(1), encoder_hidden_states=text)
    return counter.get_total_flops()


def requests(images: int, side: int, *, strength: float) -> list[Request]:
    """Originals of coloured blocks, five requests of each, all of them guided."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(images):
        original, repeat = divmod(index, REPEATS)
        if repeat == 0:
            blocks = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            picture = blocks.resize((side, side), Image.Resampling.BICUBIC)
        described = Described(f"k{original}", 0, "coat", "a dark coat", 0.2, (), ())
        made.append(
            Request(
                described, repeat, "sgid", f"a photo of a coat, number {original}", picture,
                strength, float(rng.uniform(2, 10)), index, 0, "coat",
            )
        )  # fmt: skip
    return made
