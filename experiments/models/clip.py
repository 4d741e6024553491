"""A CLIP of open_clip's own classes, on 32 px, with a small text tower and a BPE of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.models.captions import caption
from experiments.models.tokenizers import MAX_LENGTH, clip_tokenizer, tokenize
from experiments.models.training import halved, train
from experiments.models.world import Attributes, Part, Sizes, World, mirroring, pixels


def model_config(sizes: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    text = {
        "context_length": MAX_LENGTH, "vocab_size": vocabulary, **sizes["text_cfg"],
        "hf_tokenizer_name": "local",
    }  # fmt: skip
    return {**sizes, "text_cfg": text}


def fit(
    world: World,
    sizes: Sizes,
    part: Part,
    attributes: Attributes,
    words: list[str],
    work: Path,
    *,
    device: torch.device,
    clean: bool = False,
    **limits: Any,
) -> Path:
    """Train on captions that are drawn for each step; the folder that open_clip loads."""
    name = "clip-clean" if clean else "clip"
    folder = work / name
    tokenizer = clip_tokenizer(folder, words)
    config = model_config(sizes.clip, len(tokenizer))
    torch.manual_seed(0)
    model = CLIP(**config).to(device)
    side = config["vision_cfg"]["image_size"]

    def loss(rows: Tensor) -> Tensor:
        rng = np.random.default_rng(int(rows.sum()))
        texts = [
            caption(world, attributes, i, part.labels[i], rng, clean=clean) for i in rows.tolist()
        ]
        tokens = tokenize(tokenizer, texts).to(device)
        inputs = resized(pixels(part, rows, mirroring(sizes, rows)).to(device), side)
        images = model.encode_image(inputs, normalize=True)
        logits = model.logit_scale.exp() * images @ model.encode_text(tokens, normalize=True).T
        # Equal captions are equally right for an image.
        numbers = torch.tensor([texts.index(text) for text in texts], device=device)
        same = (numbers[:, None] == numbers).float()
        targets = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    for step, value in train(
        nn.ModuleDict({"clip": model}), loss, sizes.clip_training, images=len(part.images),
        checkpoint=work / f"{name}.pt", seed=1, ema=sizes.ema, **limits,
    ):  # fmt: skip
        print(f"{name} {step} loss {value:.4f}", flush=True)
    preprocess = {
        "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest",
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    )
    state = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
    save_file(halved(state) if sizes.half else state, folder / "partial.safetensors")
    os.replace(folder / "partial.safetensors", folder / "open_clip_model.safetensors")
    return folder


def resized(images: Tensor, side: int) -> Tensor:
    """Pixels (B, 3, side, side), as a CLIP's own preprocessing makes them of 32 px."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=side, mode="bicubic", antialias=True).clamp(-1, 1)


@torch.no_grad()
def zero_shot(world: World, folder: Path, part: Part) -> float:
    """Share of images whose nearest `a photo of a <class>` is their class."""
    model: Any = open_clip.create_model_and_transforms(f"local-dir:{folder}")[0]
    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{folder}")
    side = model.visual.image_size[0]
    names = world.class_names[: world.evaluated]
    texts = model.encode_text(tokenizer([f"a photo of a {n}" for n in names]), normalize=True)
    right = 0
    for start in range(0, len(part.images), 500):
        rows = slice(start, start + 500)
        inputs = resized(pixels(part, rows), side)
        images = model.eval().encode_image(inputs, normalize=True)
        right += int(((images @ texts.T).argmax(1).numpy() == part.labels[rows]).sum())
    return right / len(part.images)
