"""The judge: a classifier of real images with true labels, which the bundled models never see.

It says of a generated picture which class it still is. It is not bundled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.models.training import train
from experiments.models.world import Part, Sizes, World, shift_and_mirror


class Residual(nn.Module):
    """Two 3×3 convolutions and a shortcut around them; a stride of 2 halves the picture."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(8, out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.GroupNorm(8, out),
        )
        self.shortcut = nn.Conv2d(channels, out, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def build(sizes: dict[str, Any], classes: int) -> nn.Module:
    torch.manual_seed(0)
    width = sizes["stem"]
    layers: list[nn.Module] = [nn.Conv2d(sizes["channels"], width, 3, padding=1), nn.ReLU()]
    for out, stride in sizes["blocks"]:
        layers.append(Residual(width, out, stride))
        width = out
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, classes)
    )


def inputs(images: NDArray[np.uint8]) -> Tensor:
    """Grey images (N, 32, 32) as (N, 1, 32, 32) in [-1, 1], those in colour as (N, 3, 32, 32)."""
    scaled = torch.from_numpy(images).float() / 127.5 - 1
    return scaled[:, None] if scaled.ndim == 3 else scaled.permute(0, 3, 1, 2)


def fit(
    world: World, sizes: Sizes, part: Part, work: Path, *, device: torch.device, **limits: Any
) -> nn.Module:
    """Train on true labels; images are shifted by a few pixels and half of them mirrored."""
    judge = build(sizes.judge, world.evaluated).to(device)
    labels = torch.from_numpy(part.labels.astype(np.int64))

    def loss(rows: Tensor) -> Tensor:
        images = inputs(part.images[rows.numpy()])
        if sizes.judge["channels"] == 1:  # around clothing there is nothing: all may move alike
            down, right = torch.randint(-2, 3, (2,)).tolist()
            images = images.roll((down, right), (2, 3))
            mirrored = torch.rand(len(rows), 1, 1, 1) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        else:
            images = shift_and_mirror(images, reflect=True)
        logits = judge(images.to(device))
        return F.cross_entropy(logits, labels[rows].to(device), label_smoothing=0.05)

    for step, value in train(
        nn.ModuleDict({"judge": judge}), loss, sizes.judge_training, images=len(part.images),
        checkpoint=work / "judge.pt", seed=4, ema=sizes.ema, **limits,
    ):  # fmt: skip
        print(f"judge {step} loss {value:.4f}", flush=True)
    return judge.cpu()


@torch.no_grad()
def verdicts(judge: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class (N,) of each image (N, 32, 32) or (N, 32, 32, 3)."""
    chunks = [judge(inputs(images[i : i + 500])).argmax(1) for i in range(0, len(images), 500)]
    return torch.cat(chunks).numpy()


def accuracy(judge: nn.Module, part: Part) -> float:
    return float((verdicts(judge, part.images) == part.labels).mean())
