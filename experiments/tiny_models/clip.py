"""A CLIP of open_clip's own classes: ViT of patch 4 on 32 px, small text tower, BPE of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tiny_models.captions import Attributes, caption
from experiments.tiny_models.images import CLASS_NAMES, Part
from experiments.tiny_models.tokenizers import MAX_LENGTH, clip_tokenizer
from experiments.tiny_models.training import train
from experiments.tiny_models.vae import pixels

STEPS = 1_600
BATCH = 192


def model_config(vocabulary: int) -> dict:
    return {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 32, "patch_size": 4, "width": 64, "layers": 4, "head_width": 16,
        },
        "text_cfg": {
            "context_length": MAX_LENGTH, "vocab_size": vocabulary, "width": 64, "heads": 4,
            "layers": 2, "hf_tokenizer_name": "local",
        },
    }  # fmt: skip


def fit(
    part: Part, attributes: Attributes, work: Path, *, steps: int = STEPS, clean: bool = False
) -> Path:
    """Train on captions drawn anew each time; the folder that open_clip loads."""
    name = "clip-clean" if clean else "clip"
    folder = work / name
    tokenizer = clip_tokenizer(folder)
    config = model_config(len(tokenizer))
    torch.manual_seed(0)
    model = CLIP(**config)

    def loss(rows: Tensor) -> Tensor:
        rng = np.random.default_rng(int(rows.sum()))
        texts = [caption(attributes, i, part.labels[i], rng, clean=clean) for i in rows.tolist()]
        tokens = tokenize(tokenizer, texts)
        images = model.encode_image(pixels(part, rows), normalize=True)
        logits = model.logit_scale.exp() * images @ model.encode_text(tokens, normalize=True).T
        # Equal captions are equally right for an image.
        same = torch.tensor([[a == b for b in texts] for a in texts]).float()
        targets = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    for step, value in train(
        nn.ModuleDict({"clip": model}), loss, images=len(part.images), batch_size=BATCH,
        steps=steps, learning_rate=2e-3, checkpoint=work / f"{name}.pt", seed=1,
    ):  # fmt: skip
        print(f"{name} {step} loss {value:.4f}", flush=True)
    preprocess = {
        "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest",
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    )
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "partial.safetensors")
    os.replace(folder / "partial.safetensors", folder / "open_clip_model.safetensors")
    return folder


def tokenize(tokenizer: Callable, texts: list[str]) -> Tensor:
    """(B, MAX_LENGTH) ids, padded with the end token as Stable Diffusion does."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


@torch.no_grad()
def zero_shot(folder: Path, part: Part) -> float:
    """Share of images whose nearest `a photo of a <class>` is their class."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    texts = model.encode_text(tokenizer([f"a photo of a {n}" for n in CLASS_NAMES]), normalize=True)
    right = 0
    for start in range(0, len(part.images), 500):
        rows = slice(start, start + 500)
        images = model.eval().encode_image(pixels(part, rows), normalize=True)
        right += int(((images @ texts.T).argmax(1).numpy() == part.labels[rows]).sum())
    return right / len(part.images)
