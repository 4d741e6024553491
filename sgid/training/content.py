"""What a training ended with, as one short text that two machines can compare."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sgid.training.checkpoints import load


def content(checkpoint: Path) -> str:
    """16 hex digits of the SHA-256 of a checkpoint's weights: names, formats, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(load(checkpoint)["state_dict"].items()):
        digest.update(f"{name}\x1f{weight.dtype}\x1f{tuple(weight.shape)}\x1f".encode())
        digest.update(weight.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
