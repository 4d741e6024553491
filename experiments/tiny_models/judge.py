"""The judge: a classifier of real images with true labels, which the bundled models never see.

It says of a generated picture which class it still is. It is not bundled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tiny_models.images import CLASS_NAMES, Part
from experiments.tiny_models.training import train

STEPS = 2_400


class Residual(nn.Module):
    """Two 3×3 convolutions, halving the picture, and a shortcut around them."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.GroupNorm(8, out),
        )
        self.shortcut = nn.Conv2d(channels, out, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),  # (B, 16, 32, 32)
        nn.ReLU(),
        Residual(16, 32),
        Residual(32, 64),
        Residual(64, 128),  # (B, 128, 4, 4)
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, len(CLASS_NAMES)),
    )


def inputs(images: NDArray[np.uint8]) -> Tensor:
    """Grey images (N, 32, 32) as (N, 1, 32, 32) in [-1, 1]."""
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1


def fit(part: Part, work: Path, *, steps: int = STEPS) -> nn.Module:
    """Train on true labels; images are shifted by up to two pixels and half of them mirrored."""
    judge = build()
    labels = torch.from_numpy(part.labels.astype(np.int64))

    def loss(rows: Tensor) -> Tensor:
        images = inputs(part.images[rows.numpy()])
        down, right = torch.randint(-2, 3, (2,)).tolist()
        images = images.roll((down, right), (2, 3))
        mirrored = torch.rand(len(rows), 1, 1, 1) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
        return F.cross_entropy(judge(images), labels[rows], label_smoothing=0.05)

    for step, value in train(
        nn.ModuleDict({"judge": judge}), loss, images=len(part.images), batch_size=64, steps=steps,
        learning_rate=2e-3, checkpoint=work / "judge.pt", seed=4, save_every=400,
    ):  # fmt: skip
        print(f"judge {step} loss {value:.4f}", flush=True)
    return judge


@torch.no_grad()
def verdicts(judge: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class (N,) of each grey image (N, 32, 32)."""
    chunks = [judge(inputs(images[i : i + 500])).argmax(1) for i in range(0, len(images), 500)]
    return torch.cat(chunks).numpy()


def accuracy(judge: nn.Module, part: Part) -> float:
    return float((verdicts(judge, part.images) == part.labels).mean())
