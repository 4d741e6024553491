"""A vision transformer of timm's own class, pre-trained, as the full-size ViT is on ImageNet-21k.

Patches of 8 pixels make 16 places: with 64 places of patch 4 a step takes four times as long, and
after equal time on a CPU it knows less.

It is taught what the rules of `captions` see in an image, and a noun: a coarse one of clothing, the
class of photographs that are not CIFAR-10's. The ten classes that a classifier is later trained on
are never shown to it, so that few images of them are few.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.models.training import halved, train
from experiments.models.world import Attributes, Part, Sizes, World, pixels, shift_and_mirror

ARCHITECTURE = "vit_tiny_patch16_224"
"""The timm entry whose class, and whose mean and deviation of 0.5, are taken."""


def tasks(world: World) -> dict[str, int]:
    """The questions that the ViT answers of each image, with their numbers of answers."""
    counts = {name: len(words) for name, words in world.words.items()}
    return {**counts, "noun": max(world.taught_nouns) + 1}


def build(world: World, sizes: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        ARCHITECTURE, num_classes=sum(tasks(world).values()), **sizes,
        pretrained_cfg_overlay={"tag": world.vit_tag, "license": "mit"},  # not timm's own
    )  # fmt: skip


def answers(world: World, attributes: Attributes, labels: NDArray) -> Tensor:
    """The right answer (N, tasks) to each task for each image; -1 for none."""
    nouns = np.array(world.taught_nouns)[labels]
    return torch.from_numpy(np.stack([*(attributes[name] for name in world.words), nouns], 1))


def fit(
    world: World,
    sizes: Sizes,
    part: Part,
    attributes: Attributes,
    work: Path,
    *,
    device: torch.device,
    **limits: Any,
) -> Path:
    """Train on all tasks at once; the folder that timm loads (`local-dir:...`)."""
    model = build(world, sizes.vit).to(device)
    right = answers(world, attributes, part.labels)
    counts = list(tasks(world).values())

    def loss(rows: Tensor) -> Tensor:
        images = shift_and_mirror(pixels(part, rows), reflect=part.images.ndim == 4)
        logits = model(images.to(device)).split(counts, 1)
        expected = right[rows].to(device)
        losses = [
            F.cross_entropy(own, expected[:, i], ignore_index=-1) for i, own in enumerate(logits)
        ]
        return torch.stack(losses).mean()

    for step, value in train(
        nn.ModuleDict({"vit": model}), loss, sizes.vit_training, images=len(part.images),
        checkpoint=work / "vit.pt", seed=5, ema=sizes.ema, **limits,
    ):  # fmt: skip
        print(f"vit {step} loss {value:.4f}", flush=True)
    folder = work / "vit"
    save_for_hf(model.cpu(), str(folder), model_args=sizes.vit, safe_serialization=True)
    if sizes.half:
        file = folder / "model.safetensors"
        save_file(halved(load_file(file)), file)
    return folder


@torch.no_grad()
def accuracies(world: World, folder: Path, part: Part) -> dict[str, float]:
    """Share of right answers to each task over the images of a part that have one."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    right = answers(world, world.measure(part.images), part.labels)
    chunks = [model(pixels(part, slice(i, i + 500))) for i in range(0, len(part.images), 500)]
    logits = torch.cat(chunks).split(list(tasks(world).values()), 1)
    shares = {}
    for i, (task, own) in enumerate(zip(tasks(world), logits, strict=True)):
        rows = right[:, i] >= 0
        if rows.any():
            shares[task] = float((own.argmax(1) == right[:, i])[rows].float().mean())
    return shares
