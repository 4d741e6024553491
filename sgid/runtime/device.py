"""Choice of the device and the number format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


DEVICES = ("auto", "cpu", "cuda", "mps")


DTYPES = ("auto", "float32", "float16", "bfloat16")


def pick_device(name: str) -> torch.device:
    """Device of that name; `auto` takes the first of cuda, mps and cpu that is there."""
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


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Number format of that name; `auto` is float16 on a CUDA device and float32 elsewhere."""
    import torch

    if name not in DTYPES:
        raise ValueError(f"dtype={name}: unknown; one of {', '.join(DTYPES)}")
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64 where a device has it, so that results hardly depend on batches or devices."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64
