"""The picture of noise rate × guidance scale: what the bundled Stable Diffusion makes of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.models.evaluation import generate, load, reconstruct
from experiments.models.world import Part, World

STRENGTHS = (0.3, 0.5, 0.7, 0.9)
GUIDANCE_SCALES = (1.0, 3.0, 7.5)
STEPS = 20


def fourths(part: Part, classes: int) -> NDArray[np.intp]:
    """Rows of the fourth image of each class, or of its last; not picked by eye."""
    own = (np.flatnonzero(part.labels == label)[:4] for label in range(classes))
    return np.concatenate([rows[-1:] for rows in own])


def draw(world: World, folder: Path, part: Part, texts: list[str], output: Path) -> None:
    """One row per image of `part`: source, reconstruction, then strengths × guidance scales.

    The last columns of photographs are made from the text alone.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pipeline = load(folder)
    columns = [("source", part.images), ("VAE", reconstruct(pipeline, part))]
    strengths = STRENGTHS if part.images.ndim == 3 else (*STRENGTHS, None)
    for strength in strengths:
        for scale in GUIDANCE_SCALES:
            made = generate(world, pipeline, part, texts, strength, scale, STEPS)
            columns.append((f"{'text' if strength is None else f'{strength:g}'}\n{scale:g}", made))

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
        text = f"{world.class_names[part.labels[row]]}, {texts[row]}"
        axis.text(0, 36, text, fontsize=6, va="top", in_layout=False)
    figure.suptitle("strength (upper) and guidance scale (lower)", fontsize=9)
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))  # room for the last caption
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    plt.close(figure)
