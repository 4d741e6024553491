"""Tables of a run for Weights & Biases: accuracy by class, and its augmented images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgid.reporting.kept import Example
from sgid.reporting.results import Result

if TYPE_CHECKING:
    import wandb

SHOWN = ("method", "class_name", "caption", "similarity", "guidance_scale", "strength")
"""Fields of an example that are columns beside its images."""


def class_table(result: Result) -> wandb.Table:
    """A row per class with its test top-1 in percent."""
    import wandb

    rows: list[Any] = [[name, value] for name, value in result.class_accuracy.items()]
    return wandb.Table(columns=["class", "top1"], data=rows)


def example_table(examples: Sequence[Example]) -> wandb.Table:
    """A row per augmented image, its original beside it, and whether a filter kept it."""
    import wandb
    from PIL import Image

    def picture(encoded: bytes) -> wandb.Image:
        return wandb.Image(Image.open(io.BytesIO(encoded)))

    rows: list[Any] = []
    for one in examples:
        original = picture(one.original)
        for image, kept in zip(one.images, one.kept, strict=True):
            rows.append([original, picture(image), kept, *(getattr(one, name) for name in SHOWN)])
    return wandb.Table(columns=["original", "augmented", "kept", *SHOWN], data=rows)
