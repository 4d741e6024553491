"""Choosing a device and a number format, and saying it in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "float16", "bfloat16")
SCORER_DTYPES = (*DTYPES, "float64")


def pick_device(name: str) -> torch.device:
    """`auto` takes the first of cuda, mps and cpu that is there."""
    import torch

    if name not in DEVICES and not name.startswith("cuda:"):
        raise ValueError(f"trainer.device={name}: unknown; one of {', '.join(DEVICES)}")
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.device={name}: no CUDA device here; use trainer.device=cpu")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device, *, role: str) -> torch.dtype:
    """The number format of a model; `role` is captioner, scorer or generator.

    `auto` is what is fast where images are drawn: float16 on CUDA. Captions and similarities decide
    what is drawn, and should not hang on the batch size or the device: float32 for captions, and
    float64, where a device has it, for the similarities that guidance follows.
    """
    import torch

    choices = SCORER_DTYPES if role == "scorer" else DTYPES
    if name not in choices:
        raise ValueError(f"models.{role}.dtype={name}: must be one of {', '.join(choices)}")
    if name == "auto":
        name = {
            "generator": "float16" if device.type == "cuda" else "float32",
            "captioner": "float32",
            "scorer": "float32" if device.type == "mps" else "float64",
        }[role]
    return getattr(torch, name)
