"""Images that a writer of a set has written, for tests to compare with what a source reads."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from sgid.data.decode import decode
from tests.data.writers import encoded

Written = dict[str, dict[str, tuple[str, np.ndarray]]]
"""Split -> key -> class name and pixels, uint8 (H, W, 3)."""


class Writer(Protocol):
    """Writes a set below `root`, with so many images of each class, where it has the split."""

    def __call__(self, root: Path, *, train: int, validation: int, test: int) -> Written: ...


def scene(label: int, index: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A thing on a ground: its form and colour are the label's, its place and light the index's."""
    width, height = size
    rng = np.random.default_rng([label, index])
    light = np.linspace(rng.integers(150, 200), rng.integers(200, 250), height)
    ground = np.repeat(light[:, None, None], width, 1) * np.array([0.9, 0.95, 1.0])
    image = Image.fromarray(ground.astype(np.uint8))
    left, top = rng.integers(0, width // 3), rng.integers(0, height // 3)
    box = (left, top, left + width // 2, top + height // 2)
    colour = tuple(int(value) for value in np.random.default_rng(label).integers(0, 150, 3))
    draw = ImageDraw.Draw(image)
    if label % 3 == 0:
        draw.ellipse(box, fill=colour)
    elif label % 3 == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(box[0], box[3]), (box[2], box[3]), (box[2], box[1])], fill=colour)
    return image


def save(path: Path, label: int, index: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """Write that scene as a JPEG file at `path`; the pixels that it then has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = encoded(scene(label, index, size), "JPEG", quality=90)
    path.write_bytes(data)
    return np.asarray(decode(data))


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
