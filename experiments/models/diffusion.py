"""A Stable Diffusion: UNet on a VAE's latents and a text encoder, trained together."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from experiments.models.captions import prompt
from experiments.models.tokenizers import MAX_LENGTH, clip_tokenizer, tokenize
from experiments.models.training import train
from experiments.models.vae import encode
from experiments.models.world import Attributes, Part, Sizes, World, mirroring

EMPTY_SHARE = 0.1  # captions left out, so that the model can be guided


def build(
    sizes: dict[str, Any], channels: int, vocabulary: int
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        **{
            "in_channels": channels,
            "out_channels": channels,
            "layers_per_block": 1,
            "attention_head_dim": 4,
            "norm_num_groups": 16,
            **sizes,
        }
    )
    width = sizes["cross_attention_dim"]
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width,
            num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=MAX_LENGTH,
            projection_dim=width, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )  # fmt: skip
    for module in text.modules():
        # The default deviation of 0.02 is made for widths of 768.
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.06)
    return unet, text


def fit(
    world: World,
    sizes: Sizes,
    part: Part,
    attributes: Attributes,
    words: list[str],
    vae: AutoencoderKL,
    work: Path,
    *,
    device: torch.device,
    clean: bool = False,
    **limits: Any,
) -> Path:
    """Noise prediction (Ho et al., 2020); the folder of the whole img2img pipeline."""
    name = "sd-clean" if clean else "sd"
    folder = work / name
    tokenizer: CLIPTokenizer = clip_tokenizer(folder / "tokenizer", words)
    tokenize(tokenizer, [""])  # how it is used is saved with it, also where no step is left to do
    unet, text = build(sizes.unet, vae.config.latent_channels, len(tokenizer))
    unet, text = unet.to(device), text.to(device)
    # Stable Diffusion 1.5's own noise schedule; solvers take it over. DPM-Solver++ itself must not
    # add the noise of training: before `set_timesteps` its `add_noise` takes t for 999 - t.
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    signal = scheduler.alphas_cumprod.to(device)
    ratio = signal / (1 - signal)  # SNR of each time
    weights = None if sizes.min_snr is None else ratio.clamp(max=sizes.min_snr) / ratio
    scaled = _latents(vae.to(device), part, work, mirrored=sizes.mirrored)
    latents = [each.to(device) for each in scaled]

    def loss(rows: Tensor) -> Tensor:
        rng = np.random.default_rng(int(rows.sum()))
        texts = [
            "" if rng.random() < EMPTY_SHARE
            else prompt(world, attributes, i, part.labels[i], rng, clean=clean)
            for i in rows.tolist()
        ]  # fmt: skip
        mirrored = mirroring(sizes, rows)
        clear = latents[0][rows.to(device)]
        if mirrored is not None:
            clear = torch.where(
                mirrored.to(device)[:, None, None, None], latents[1][rows.to(device)], clear
            )
        noise = torch.randn_like(clear)
        times = torch.randint(1000, (len(rows),)).to(device)
        noisy = scheduler.add_noise(clear, noise, times)
        states = text(tokenize(tokenizer, texts).to(device)).last_hidden_state
        predicted = unet(noisy, times, encoder_hidden_states=states).sample
        if weights is None:
            return F.mse_loss(predicted, noise)
        return ((predicted - noise).square().mean((1, 2, 3)) * weights[times]).mean()

    for step, value in train(
        nn.ModuleDict({"unet": unet, "text": text}), loss, sizes.sd_training,
        images=len(part.images), checkpoint=work / f"{name}.pt", seed=3, ema=sizes.sd_ema, **limits,
    ):  # fmt: skip
        print(f"{name} {step} loss {value:.4f}", flush=True)
    pipeline: Any = StableDiffusionImg2ImgPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    if sizes.half:
        pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in (folder / "model_index.json", folder / "vae" / "config.json"):
        content = {k: v for k, v in json.loads(file.read_text()).items() if k != "_name_or_path"}
        file.write_text(json.dumps(content, indent=2) + "\n")
    return folder


def _latents(vae: AutoencoderKL, part: Part, work: Path, *, mirrored: bool) -> list[Tensor]:
    """Scaled latents of the images, and of their mirror images; `work` keeps those of this VAE."""
    weights = b"".join(value.cpu().numpy().tobytes() for value in vae.state_dict().values())
    cache = work / f"latents-{hashlib.sha256(weights).hexdigest()[:16]}.pt"
    if not cache.is_file():
        both = (False, True) if mirrored else (False,)
        scale = vae.config.scaling_factor
        partial = cache.with_suffix(".tmp")
        torch.save([encode(vae, part, mirrored=each) * scale for each in both], partial)
        os.replace(partial, cache)
    return torch.load(cache, weights_only=True)
