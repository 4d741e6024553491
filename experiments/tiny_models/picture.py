"""The picture of noise rate × guidance scale: what the bundled Stable Diffusion makes of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray

from experiments.tiny_models.evaluation import generate, load, pictures
from experiments.tiny_models.images import CLASS_NAMES, Part

STRENGTHS = (0.3, 0.5, 0.7, 0.9)
GUIDANCE_SCALES = (1.0, 3.0, 7.5)


@torch.no_grad()
def reconstruct(pipeline: StableDiffusionImg2ImgPipeline, part: Part) -> NDArray[np.uint8]:
    """Through the VAE and back: grey images (N, 32, 32)."""
    inputs = pipeline.image_processor.preprocess(pictures(part.images))
    latents = pipeline.vae.encode(inputs).latent_dist.mean
    decoded = pipeline.vae.decode(latents).sample  # (N, 3, 32, 32) in [-1, 1]
    return ((decoded.mean(1).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def draw(folder: Path, part: Part, texts: list[str], output: Path, *, steps: int = 20) -> None:
    """One row per image of `part`: source, reconstruction, then strengths × guidance scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pipeline = load(folder)
    columns = [("source", part.images), ("VAE", reconstruct(pipeline, part))]
    for strength in STRENGTHS:
        for scale in GUIDANCE_SCALES:
            made = generate(pipeline, part, texts, strength, scale, steps)
            columns.append((f"{strength:g}\n{scale:g}", made))

    figure, axes = plt.subplots(
        len(part.images), len(columns), squeeze=False,
        figsize=(0.8 * len(columns), 0.92 * len(part.images) + 0.6), layout="constrained",
    )  # fmt: skip
    for column, (title, made) in enumerate(columns):
        axes[0, column].set_title(title, fontsize=8)
        for row, axis in enumerate(axes[:, column]):
            axis.imshow(made[row], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_axis_off()
    for row, axis in enumerate(axes[:, 0]):
        text = f"{CLASS_NAMES[part.labels[row]]}, {texts[row]}"
        axis.text(0, 36, text, fontsize=6, va="top", in_layout=False)
    figure.suptitle("strength (upper) and guidance scale (lower)", fontsize=9)
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))  # room for the last caption
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    plt.close(figure)
