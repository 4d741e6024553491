"""A vision transformer of timm's own class, pre-trained, as the full-size ViT is on ImageNet-21k.

Patches of 8 pixels make 16 places: with 64 places of patch 4 a step takes four times as long, and
after equal time on a CPU it knows less.

It is taught what the rules of `captions` see in an image, and the coarse noun. The ten classes that
a classifier is later trained on are never shown to it, so that few images of them are few.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.models import save_for_hf
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tiny_models import captions
from experiments.tiny_models.captions import COARSE, Attributes
from experiments.tiny_models.images import Part
from experiments.tiny_models.training import train
from experiments.tiny_models.vae import pixels

STEPS = 2_500
BATCH = 128
SHIFT = 4  # pixels

ARCHITECTURE = "vit_tiny_patch16_224"
"""The timm entry whose class, and whose mean and deviation of 0.5, are taken."""

SIZES: dict[str, Any] = {
    "img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4,
    "class_token": False, "global_pool": "avg",
}  # fmt: skip
NOUNS = sorted(set(COARSE))
TASKS = {
    "brightness": len(captions.BRIGHTNESS),
    "texture": len(captions.TEXTURE),
    "shape": len(captions.SHAPE),
    "detail": len(captions.DETAIL),
    "noun": len(NOUNS),
}
"""What it is asked of each image, and how many answers there are."""


def build() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        ARCHITECTURE, num_classes=sum(TASKS.values()), **SIZES,
        pretrained_cfg_overlay={"tag": "fashion_attributes", "license": "mit"},  # not timm's own
    )  # fmt: skip


def answers(attributes: Attributes, labels: NDArray[np.uint8]) -> Tensor:
    """The right answer (N, 5) to each task for each image."""
    a = attributes
    nouns = np.array([NOUNS.index(noun) for noun in COARSE])[labels]
    return torch.from_numpy(np.stack([a.brightness, a.texture, a.shape, a.detail, nouns], 1))


def fit(part: Part, attributes: Attributes, work: Path, *, steps: int = STEPS) -> Path:
    """Train on all tasks at once; the folder that timm loads (`local-dir:...`)."""
    model = build()
    right = answers(attributes, part.labels)

    def loss(rows: Tensor) -> Tensor:
        logits = model(augment(pixels(part, rows))).split(list(TASKS.values()), 1)
        losses = [F.cross_entropy(own, right[rows, i]) for i, own in enumerate(logits)]
        return torch.stack(losses).mean()

    for step, value in train(
        nn.ModuleDict({"vit": model}), loss, images=len(part.images), batch_size=BATCH,
        steps=steps, learning_rate=1e-3, checkpoint=work / "vit.pt", seed=5,
    ):  # fmt: skip
        print(f"vit {step} loss {value:.4f}", flush=True)
    folder = work / "vit"
    save_for_hf(model, str(folder), model_args=SIZES, safe_serialization=True)
    return folder


def augment(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1], each shifted by up to `SHIFT` pixels; half are mirrored."""
    count, _, height, width = images.shape
    padded = F.pad(images, (SHIFT,) * 4, value=-1.0)
    down, right = torch.randint(2 * SHIFT + 1, (2, count))
    mirrored = torch.rand(count) < 0.5
    rows = down[:, None] + torch.arange(height)  # (B, H)
    columns = right[:, None] + torch.where(
        mirrored[:, None], torch.arange(width).flip(0), torch.arange(width)
    )
    batch = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


@torch.no_grad()
def accuracies(folder: Path, part: Part) -> dict[str, float]:
    """Share of right answers to each task over the images of a part."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    right = answers(captions.measure(part.images), part.labels)
    chunks = [model(pixels(part, slice(i, i + 500))) for i in range(0, len(part.images), 500)]
    logits = torch.cat(chunks).split(list(TASKS.values()), 1)
    return {
        task: float((own.argmax(1) == right[:, i]).float().mean())
        for i, (task, own) in enumerate(zip(TASKS, logits, strict=True))
    }
