"""A world of the recipe: its images, the words for them, and the sizes of its models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Attributes = Mapping[str, NDArray[np.int64]]
"""For each attribute of a world, the index of its word for each image (N,)."""

Phrases = list[tuple[str, float]]
"""Phrases of a caption, each with the chance that a caption holds it."""


@dataclass(frozen=True)
class Part:
    """Images (N, 32, 32) grey or (N, 32, 32, 3) in colour, uint8; their labels (N,) and keys."""

    images: NDArray[np.uint8]
    labels: NDArray[Any]
    keys: tuple[str, ...]

    def select(self, rows: NDArray) -> Part:
        return Part(self.images[rows], self.labels[rows], tuple(self.keys[i] for i in rows))


@dataclass(frozen=True)
class Training:
    """Optimizer steps, their batch, the peak learning rate, and steps between checkpoints."""

    steps: int
    batch_size: int
    learning_rate: float
    save_every: int = 250


@dataclass(frozen=True)
class Sizes:
    """Arguments of each model's class, and its training."""

    vae: dict[str, Any]
    vae_training: Training
    clip: dict[str, Any]
    clip_training: Training
    blip: dict[str, Any]
    """Of the vision and of the text configuration."""
    blip_training: Training
    unet: dict[str, Any]
    sd_training: Training
    sd_ema: float
    """Of the weights of UNet and text encoder."""
    vit: dict[str, Any]
    vit_training: Training
    judge: dict[str, Any]
    judge_training: Training
    ema: float = 0.0
    """Of the weights of the captioner, the CLIP, the ViT and the judge; 0 for none."""
    mirrored: bool = False
    """Mirror half of the images that the BLIP, the CLIP and the Stable Diffusion see."""
    min_snr: float | None = None
    """Gamma of the weighting of the loss by min(SNR, gamma) / SNR (Hang et al., 2023), or none."""
    half: bool = False
    """Write weights in 16 bits."""


@dataclass(frozen=True)
class World:
    """A corpus, its caption rules and its sizes: all in which two worlds differ."""

    name: str
    output: Path
    """Folder of the finished models, in the package's assets."""
    picture: str
    """File of the picture of strengths, among those of the documentation."""
    images: Path | None
    """The usual folder of the images."""
    read: Callable[[Path], dict[str, Part]]
    """From the folder of images the parts `pretraining`, `validation` and `test`, and others."""
    write: Callable[[Path, dict[str, Part], Path], None]
    """Write what is bundled of the images, from their folder and the parts, into the assets."""
    class_names: tuple[str, ...]
    """The noun of each label. Those that the models are measured on come first."""
    evaluated: int
    """So many of the labels are the classes that the models are measured on."""
    kinds: tuple[str, ...]
    """The coarse noun of each label."""
    words: Mapping[str, tuple[str, ...]]
    """The words of each attribute; an empty one says nothing."""
    measure: Callable[[NDArray[np.uint8]], Attributes]
    phrases: Callable[[Attributes, int], tuple[Phrases, Phrases]]
    """What can be said of an image before and after the noun."""
    said: Callable[[str, str], tuple[str, ...]]
    """The words of an attribute that a text holds, which begins and ends with a space."""
    more_words: Callable[[Path], list[str]]
    """Further phrases whose words the tokenizers are to know, from the folder of images."""
    taught_nouns: tuple[int, ...]
    """What the ViT is taught of each label: the index of a noun, or -1 for nothing."""
    vit_tag: str
    """Name of the ViT's pre-training in timm's configuration."""
    sizes: Mapping[str, Sizes]
    """By the name of a scale; `small` is that of the bundled models."""


def parts(world: World, folder: Path, work: Path) -> dict[str, Part]:
    """The world's parts; `work` keeps the decoded images while the files stay the same."""
    state = [
        (str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]
    digest = hashlib.sha256(f"{world.name} {state}".encode()).hexdigest()[:16]
    file = work / f"images-{digest}.npz"
    if not file.is_file():
        read = world.read(folder)
        arrays = {
            f"{name}.{field}": np.asarray(getattr(part, field))
            for name, part in read.items()
            for field in ("images", "labels", "keys")
        }
        work.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".tmp")
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)
        os.replace(partial, file)
        return read
    with np.load(file, allow_pickle=False) as arrays:
        names = dict.fromkeys(key.split(".")[0] for key in arrays.files)
        return {
            name: Part(
                arrays[f"{name}.images"], arrays[f"{name}.labels"],
                tuple(arrays[f"{name}.keys"].tolist()),
            )
            for name in names
        }  # fmt: skip


def words_in(words: Sequence[str], text: str) -> tuple[str, ...]:
    """Words that a text, which begins and ends with a space, holds as a whole."""
    return tuple(word for word in words if word and f" {word} " in text)


def pixels(part: Part, rows: Tensor | slice, mirrored: Tensor | None = None) -> Tensor:
    """(B, 3, 32, 32) in [-1, 1]; those that `mirrored` (B,) marks are flipped."""
    images = torch.from_numpy(part.images[rows]).float() / 127.5 - 1
    if images.ndim == 3:
        images = images[:, None].expand(-1, 3, -1, -1)
    else:
        images = images.permute(0, 3, 1, 2)
    if mirrored is not None:
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def mirroring(sizes: Sizes, rows: Tensor) -> Tensor | None:
    """Which (B,) of the images of a batch are to be flipped: a random half, or none."""
    return torch.rand(len(rows)) < 0.5 if sizes.mirrored else None


def shift_and_mirror(images: Tensor, *, reflect: bool, shift: int = 4) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], each shifted by up to `shift` pixels; half are mirrored.

    What comes into view is black, or with `reflect` the image's own border mirrored.
    """
    count, _, height, width = images.shape
    how: dict[str, Any] = {"mode": "reflect"} if reflect else {"value": -1.0}
    padded = F.pad(images, (shift,) * 4, **how)
    down, right = torch.randint(2 * shift + 1, (2, count))
    mirrored = torch.rand(count) < 0.5
    rows = down[:, None] + torch.arange(height)  # (B, H)
    columns = right[:, None] + torch.where(
        mirrored[:, None], torch.arange(width).flip(0), torch.arange(width)
    )
    batch = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def pictures(images: NDArray[np.uint8]) -> list[Image.Image]:
    return [Image.fromarray(image).convert("RGB") for image in images]


def pixel_hashes(images: NDArray[np.uint8]) -> list[int]:
    """First 8 bytes of the SHA-256 of each image's pixels, as an integer."""
    return [int.from_bytes(hashlib.sha256(i.tobytes()).digest()[:8], "big") for i in images]
