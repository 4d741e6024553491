"""A BLIP captioner of transformers' own classes: ViT of patch 4 on 32 px, two decoder layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from experiments.tiny_models.captions import Attributes, descriptive_caption
from experiments.tiny_models.images import Part
from experiments.tiny_models.tokenizers import MAX_LENGTH, bert_tokenizer
from experiments.tiny_models.training import train
from experiments.tiny_models.vae import pixels

STEPS = 5_500


def build(tokenizer) -> BlipForConditionalGeneration:
    torch.manual_seed(0)
    shared = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
    start = tokenizer.convert_tokens_to_ids("[DEC]")
    config = BlipConfig(
        vision_config={"image_size": 32, "patch_size": 4, "num_hidden_layers": 4, **shared},
        text_config={
            "vocab_size": len(tokenizer), "encoder_hidden_size": 64, "num_hidden_layers": 2,
            "max_position_embeddings": MAX_LENGTH + 16, "bos_token_id": start,
            "eos_token_id": tokenizer.sep_token_id, "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id, "label_smoothing": 0.0, **shared,
        },
        projection_dim=64,
    )  # fmt: skip
    model = BlipForConditionalGeneration(config)
    for module in model.modules():
        # The default deviation of 0.02 is made for widths of 768.
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.06)
    return model


def fit(part: Part, attributes: Attributes, work: Path, *, steps: int = STEPS) -> Path:
    """Train on descriptive captions drawn anew each time; the folder that transformers loads."""
    folder = work / "blip"
    tokenizer = bert_tokenizer(folder)
    model = build(tokenizer)
    start = model.config.text_config.bos_token_id

    def loss(rows: Tensor) -> Tensor:
        rng = np.random.default_rng(int(rows.sum()))
        texts = [descriptive_caption(attributes, i, part.labels[i], rng) for i in rows.tolist()]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        ids = batch.input_ids
        ids[:, 0] = start
        labels = ids.masked_fill(batch.attention_mask == 0, -100)
        return model(
            pixel_values=pixels(part, rows), input_ids=ids,
            attention_mask=batch.attention_mask, labels=labels,
        ).loss  # fmt: skip

    for step, value in train(
        nn.ModuleDict({"blip": model}), loss, images=len(part.images), batch_size=64, steps=steps,
        learning_rate=2e-3, checkpoint=work / "blip.pt", seed=2,
    ):  # fmt: skip
        print(f"blip {step} loss {value:.4f}", flush=True)
    model.save_pretrained(folder)
    images = BlipImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder
