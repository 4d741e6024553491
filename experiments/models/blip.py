"""A BLIP captioner of transformers' own classes: ViT of patch 4 on 32 px, two decoder layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from experiments.models.captions import descriptive_caption
from experiments.models.tokenizers import MAX_LENGTH, bert_tokenizer
from experiments.models.training import train
from experiments.models.world import Attributes, Part, Sizes, World, mirroring, pixels


def build(sizes: dict[str, Any], tokenizer: Any) -> BlipForConditionalGeneration:
    torch.manual_seed(0)
    start = tokenizer.convert_tokens_to_ids("[DEC]")
    config = BlipConfig(
        vision_config={"image_size": 32, **sizes["vision"]},
        text_config={
            "vocab_size": len(tokenizer), "encoder_hidden_size": sizes["vision"]["hidden_size"],
            "max_position_embeddings": MAX_LENGTH + 16, "bos_token_id": start,
            "eos_token_id": tokenizer.sep_token_id, "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id, "label_smoothing": 0.0, **sizes["text"],
        },
        projection_dim=64,
    )  # fmt: skip
    model = BlipForConditionalGeneration(config)
    for module in model.modules():
        # The default deviation of 0.02 is made for widths of 768.
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.06)
    return model


def fit(
    world: World,
    sizes: Sizes,
    part: Part,
    attributes: Attributes,
    words: list[str],
    work: Path,
    *,
    device: torch.device,
    **limits: Any,
) -> Path:
    """Train on captions that are drawn for each step; the folder that transformers loads."""
    folder = work / "blip"
    tokenizer = bert_tokenizer(folder, words)
    tokenizer([""], padding=True)  # how it is used is saved with it, also where no step is left
    model: Any = build(sizes.blip, tokenizer).to(device)
    start = model.config.text_config.bos_token_id

    def loss(rows: Tensor) -> Tensor:
        rng = np.random.default_rng(int(rows.sum()))
        texts = [
            descriptive_caption(world, attributes, i, part.labels[i], rng) for i in rows.tolist()
        ]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        ids = batch.input_ids
        ids[:, 0] = start
        labels = ids.masked_fill(batch.attention_mask == 0, -100)
        return model(
            pixel_values=pixels(part, rows, mirroring(sizes, rows)).to(device),
            input_ids=ids.to(device),
            attention_mask=batch.attention_mask.to(device),
            labels=labels.to(device),
        ).loss

    for step, value in train(
        nn.ModuleDict({"blip": model}), loss, sizes.blip_training, images=len(part.images),
        checkpoint=work / "blip.pt", seed=2, ema=sizes.ema, **limits,
    ):  # fmt: skip
        print(f"blip {step} loss {value:.4f}", flush=True)
    (model.half() if sizes.half else model).save_pretrained(folder)
    images = BlipImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder
