"""Less memory for the same images: parts of a pipeline that are on the GPU only while they compute,
and a VAE that takes one image, or one tile of it, at a time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

LOW, LOWEST = "low", "lowest"

MODES = (None, LOW, LOWEST)
"""`lowest` decodes in tiles, which changes images at the seams."""


def goes_in_turns(mode: str | None, device: torch.device) -> bool:
    """Whether the parts of a pipeline take turns on the device: only CUDA has memory of its own."""
    return mode is not None and device.type == "cuda"


def slice_vae(vae: Any, mode: str | None) -> None:
    """Let a VAE take an image at a time, and with `lowest` tiles of half the side it was trained
    on, which overlap by a quarter.
    """
    if mode is None:
        return
    vae.enable_slicing()
    if mode == LOWEST:
        vae.tile_sample_min_size = vae.config.sample_size // 2
        vae.tile_latent_min_size = vae.tile_sample_min_size // 2 ** (
            len(vae.config.block_out_channels) - 1
        )
        vae.enable_tiling()


def take_turns(pipe: Any, device: torch.device) -> None:
    """Keep the parts in main memory, by accelerate: each is on `device` from when it is called to
    when the one after it is (text encoders, UNet, VAE).
    """
    pipe.enable_model_cpu_offload(device=device)


def put_aside(pipe: Any) -> None:
    """Send all parts of a pipeline whose parts take turns back to main memory."""
    pipe.maybe_free_model_hooks()


def device_of(pipe: Any) -> torch.device:
    """The device that a pipeline computes on, wherever its parts are at the moment."""
    return pipe._execution_device


def say_mode(mode: str | None, device: torch.device) -> None:
    """Tell what `mode` does on a device that has no memory of its own."""
    if mode is not None and not goes_in_turns(mode, device):
        what = "an image at a time" if mode == LOW else "tile by tile"
        log.info(
            "models.generator.memory=%s: on %s the VAE takes %s; the parts of the model stay where "
            "they are, since the device has no other memory to put them aside to",
            mode, device.type, what,
        )  # fmt: skip
