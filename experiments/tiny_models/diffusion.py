"""A Stable Diffusion: UNet on 8×8×8 latents and a text encoder, trained together."""

from __future__ import annotations

import json
from pathlib import Path

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

from experiments.tiny_models.captions import Attributes, caption, descriptive_caption, weak_noun
from experiments.tiny_models.clip import tokenize
from experiments.tiny_models.images import Part
from experiments.tiny_models.tokenizers import MAX_LENGTH, clip_tokenizer
from experiments.tiny_models.training import train
from experiments.tiny_models.vae import encode

STEPS = 5_000
EMPTY_SHARE = 0.1  # captions left out, so that the model can be guided


def build(vocabulary: int) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=64, intermediate_size=256, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=MAX_LENGTH, projection_dim=64,
            bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
        )
    )  # fmt: skip
    for module in text.modules():
        # The default deviation of 0.02 is made for widths of 768.
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.06)
    return unet, text


def prompt(
    attributes: Attributes, image: int, label: int, rng: np.random.Generator, *, clean: bool = False
) -> str:
    """Alt text, or in half of the cases two texts of one image: `a photo of a <noun>, <caption>`.

    The two nouns are drawn apart, so that they contradict each other at times. SGID's prompts do so
    as well, where the captioner is wrong about the label, and the model should have met that.
    """
    if clean or rng.random() < 0.5:
        return caption(attributes, image, label, rng, clean=clean)
    noun = weak_noun(label, rng) or "thing"
    return f"a photo of a {noun}, {descriptive_caption(attributes, image, label, rng)}"


def fit(
    part: Part,
    attributes: Attributes,
    vae: AutoencoderKL,
    work: Path,
    *,
    steps: int = STEPS,
    clean: bool = False,
) -> Path:
    """Noise prediction (Ho et al., 2020); the folder of the whole img2img pipeline."""
    name = "sd-clean" if clean else "sd"
    folder = work / name
    tokenizer: CLIPTokenizer = clip_tokenizer(folder / "tokenizer")
    unet, text = build(len(tokenizer))
    # Stable Diffusion 1.5's own noise schedule; solvers take it over. DPM-Solver++ itself must not
    # add the noise of training: before `set_timesteps` its `add_noise` takes t for 999 - t.
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    cache = work / "latents.pt"
    if not cache.is_file():
        torch.save(encode(vae, part) * vae.config.scaling_factor, cache)
    latents = torch.load(cache, weights_only=True)

    def loss(rows: Tensor) -> Tensor:
        rng = np.random.default_rng(int(rows.sum()))
        texts = [
            "" if rng.random() < EMPTY_SHARE
            else prompt(attributes, i, part.labels[i], rng, clean=clean)
            for i in rows.tolist()
        ]  # fmt: skip
        clear = latents[rows]
        noise = torch.randn_like(clear)
        times = torch.randint(1000, (len(rows),))
        noisy = scheduler.add_noise(clear, noise, times)
        states = text(tokenize(tokenizer, texts)).last_hidden_state
        return F.mse_loss(unet(noisy, times, encoder_hidden_states=states).sample, noise)

    for step, value in train(
        nn.ModuleDict({"unet": unet, "text": text}), loss, images=len(part.images), batch_size=64,
        steps=steps, learning_rate=1e-3, checkpoint=work / f"{name}.pt", seed=3, ema=0.998,
        save_every=500,
    ):  # fmt: skip
        print(f"{name} {step} loss {value:.4f}", flush=True)
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    index = folder / "model_index.json"
    content = {k: v for k, v in json.loads(index.read_text()).items() if k != "_name_or_path"}
    index.write_text(json.dumps(content, indent=2) + "\n")
    return folder
