"""A CLIP of open_clip's own classes: ViT of patch 4 on 32 px, small text tower, BPE of its own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tiny_models.captions import COARSE, NOUNS, Attributes, caption
from experiments.tiny_models.images import CLASS_NAMES, Part
from experiments.tiny_models.tokenizers import MAX_LENGTH, clip_tokenizer
from experiments.tiny_models.training import train
from experiments.tiny_models.vae import pixels

STEPS = 1_600
BATCH = 192
SHARPEN = 0.3  # of `STEPS`, after them
NOUN = re.compile(r"\b(" + "|".join(sorted(NOUNS, key=len, reverse=True)) + r")\b")


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
    """Train on captions drawn anew each time; the folder that open_clip loads.

    `STEPS` of contrast between the captions of a batch, then `sharpen`.
    """
    name = "clip-clean" if clean else "clip"
    folder = work / name
    tokenizer = clip_tokenizer(folder)
    config = model_config(len(tokenizer))
    torch.manual_seed(0)
    model = CLIP(**config)

    def draw(rows: Tensor) -> list[str]:
        rng = np.random.default_rng(int(rows.sum()))
        return [caption(attributes, i, part.labels[i], rng, clean=clean) for i in rows.tolist()]

    def contrast(rows: Tensor) -> Tensor:
        texts = draw(rows)
        tokens = tokenize(tokenizer, texts)
        images = model.encode_image(pixels(part, rows), normalize=True)
        logits = model.logit_scale.exp() * images @ model.encode_text(tokens, normalize=True).T
        targets = equal(texts)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    def sharpen(rows: Tensor) -> Tensor:
        """`contrast` with one more wrong caption per image: its own, with another noun.

        Attributes nearly tell the class, so without this the noun hardly moves the similarity
        (Yuksekgonul et al., ICLR 2023, found the same of CLIP, and this cure).
        """
        texts = draw(rows)
        rng = np.random.default_rng(int(rows.sum()) + 1)
        tokens = tokenize(tokenizer, [*texts, *(swap_noun(text, rng) for text in texts)])
        images = model.encode_image(pixels(part, rows), normalize=True)
        right, wrong = model.encode_text(tokens, normalize=True).chunk(2)
        scale = model.logit_scale.exp()
        logits = scale * images @ right.T  # (B, B)
        own_wrong = scale * (images * wrong).sum(1, keepdim=True)  # (B, 1)
        # A caption without a noun has nothing to swap.
        nounless = torch.tensor([[NOUN.search(text) is None] for text in texts])
        own_wrong = own_wrong.masked_fill(nounless, -1e4)
        targets = equal(texts)
        with_wrong = torch.cat([logits, own_wrong], 1), F.pad(targets, (0, 1))
        return (F.cross_entropy(*with_wrong) + F.cross_entropy(logits.T, targets)) / 2

    modules = nn.ModuleDict({"clip": model})
    for stage, loss, count, rate in (
        (name, contrast, steps, 2e-3),
        (f"{name}-sharpen", sharpen, max(1, round(steps * SHARPEN)), 1e-3),
    ):
        for step, value in train(
            modules, loss, images=len(part.images), batch_size=BATCH, steps=count,
            learning_rate=rate, checkpoint=work / f"{stage}.pt", seed=1, save_every=100,
        ):  # fmt: skip
            print(f"{stage} {step} loss {value:.4f}", flush=True)
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


def equal(texts: list[str]) -> Tensor:
    """(B, B) targets: equal captions are equally right for an image."""
    same = torch.tensor([[a == b for b in texts] for a in texts]).float()
    return same / same.sum(1, keepdim=True)


def swap_noun(text: str, rng: np.random.Generator) -> str:
    """The caption with its class (or kind) replaced by another class (or kind)."""
    found = NOUN.search(text)
    if found is None:
        return text
    nouns = CLASS_NAMES if found[0] in CLASS_NAMES else sorted(set(COARSE))
    other = str(rng.choice([noun for noun in nouns if noun != found[0]]))
    return NOUN.sub(other, text)


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
