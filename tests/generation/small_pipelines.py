"""Folders of small diffusers pipelines: the bundled VAE and tokenizer, random weights for the rest.

The shapes are those of the published models, so that only the sizes differ.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.conftest import MODELS

WIDTH = 32  # of each text encoder
_SHIFT = {"latents_mean": [2.0, -3.0, 1.0, 4.0], "latents_std": [1.5, 1.2, 0.9, 1.0]}
TRAINED_ON = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def write_sd(folder: Path, **scheduler: Any) -> Path:
    """The bundled Stable Diffusion, with other settings of its scheduler."""
    shutil.copytree(MODELS / "sd", folder)
    edit_config(folder / "scheduler" / "scheduler_config.json", **scheduler)
    if "_class_name" in scheduler:
        edit_index(folder, scheduler=["diffusers", scheduler["_class_name"]])
    return folder


def write_sdxl(
    folder: Path, *, zeros: bool = True, shifted: bool = False, second: int = WIDTH
) -> Path:
    """SDXL: two text encoders, one of them with a pooled embedding, and sizes as time ids.

    `shifted` gives the VAE latents of another mean and deviation, as some have; `second` is the
    width of the second text encoder.
    """
    import diffusers

    torch.manual_seed(0)
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(16, 16), norm_num_groups=8, latent_channels=4, sample_size=32,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.13025, **(_SHIFT if shifted else {}),
        ),
        unet=diffusers.UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, layers_per_block=1,
            block_out_channels=(32, 64), norm_num_groups=8, attention_head_dim=(2, 4),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
            cross_attention_dim=WIDTH + second, addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + second,
        ),
        text_encoder=_clip(projected=False),
        text_encoder_2=_clip(projected=True, width=second),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(steps_offset=1, **TRAINED_ON),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def write_sd3(folder: Path) -> Path:
    """Stable Diffusion 3 without its T5: a diffusion transformer trained by flow matching."""
    import diffusers

    torch.manual_seed(0)
    pipe = diffusers.StableDiffusion3Pipeline(
        vae=_vae(shift_factor=0.1),
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=1, in_channels=8, out_channels=8, num_layers=2,
            attention_head_dim=8, num_attention_heads=4, joint_attention_dim=2 * WIDTH,
            caption_projection_dim=32, pooled_projection_dim=2 * WIDTH, pos_embed_max_size=32,
        ),
        text_encoder=_clip(projected=True),
        text_encoder_2=_clip(projected=True),
        text_encoder_3=None,
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        tokenizer_3=None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def write_pixart(folder: Path) -> Path:
    """PixArt: a diffusion transformer that draws from text alone, with a T5 (and CLIP's words)."""
    import diffusers
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    text = T5Config(vocab_size=650, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    pipe = diffusers.PixArtAlphaPipeline(
        vae=_vae(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=32, patch_size=4, in_channels=8, out_channels=16, num_layers=1,
            attention_head_dim=8, num_attention_heads=4, cross_attention_dim=32,
            caption_channels=WIDTH, use_additional_conditions=False,
        ),
        text_encoder=T5EncoderModel(text),
        tokenizer=_tokenizer(),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def edit_index(folder: Path, **entries: Any) -> None:
    """Set entries of a folder's `model_index.json`."""
    edit_config(folder / "model_index.json", **entries)


def edit_unet(folder: Path, **config: Any) -> None:
    """Another UNet, of random weights, with other settings."""
    import diffusers

    settings = diffusers.UNet2DConditionModel.load_config(folder, subfolder="unet")
    unet: Any = diffusers.UNet2DConditionModel.from_config({**settings, **config})
    unet.save_pretrained(folder / "unet")


def edit_config(file: Path, **entries: Any) -> None:
    """Set entries of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def _vae(**config: Sequence[float] | float) -> Any:
    import diffusers

    vae = diffusers.AutoencoderKL.from_pretrained(MODELS / "sd" / "vae")
    vae.register_to_config(**config)
    return vae


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(MODELS / "sd" / "tokenizer")


def _clip(*, projected: bool, width: int = WIDTH) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=650, hidden_size=width, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=32, projection_dim=width,
        bos_token_id=648, eos_token_id=649, pad_token_id=649,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
