"""Models of no weights, for workers that are killed: they start at once, and wait when told to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgid.records import Generated, Request

HOLD = "SGID_TESTS_HOLD"
"""Names a file: while it is there, engines of all processes wait before they draw an image."""

OPTIONS = (
    "allow_targets=[tests]",
    *(f"models.{role}._target_=tests.cluster.light.{name}" for role, name in (
        ("captioner", "Captioner"), ("scorer", "Scorer"), ("generator", "Engine"))),
)  # fmt: skip


@final
class Captioner:
    def __init__(self, folder: Path, **settings: Any) -> None:
        pass

    def __call__(self, images: Sequence[Any], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        return ((f"a picture of {key}", f"a photo of {key}") for key in keys)


@final
class Scorer:
    def __init__(self, folder: Path, **settings: Any) -> None:
        pass

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return _unit([np.asarray(image.convert("RGB")).mean((0, 1)) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _unit([[len(text), text.count("t"), 1] for text in texts])


@final
class Engine:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.steps = 0

    def generate(self, requests: Sequence[Request], hook: Any = None) -> Iterator[Generated]:
        for request in requests:
            while os.path.exists(os.environ.get(HOLD, "")):
                time.sleep(0.02)
            levels = np.random.default_rng(request.seed).integers(0, 256, (32, 32, 3), np.uint8)
            yield Generated(request, Image.fromarray(levels), "float32")


def _unit(rows: Sequence[Any]) -> NDArray[np.float32]:
    vectors = np.asarray(rows, np.float32) + 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
