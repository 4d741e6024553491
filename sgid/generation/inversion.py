"""DDIM inversion: from images to the noise that deterministic denoising draws them from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgid.generation.autoencoder import Autoencoder
from sgid.generation.denoising import encode_prompts, unet_arguments
from sgid.generation.memory import device_of

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


def invert(
    pipe: Any,
    autoencoder: Autoencoder,
    images: Sequence[Image],
    prompts: Sequence[str],
    *,
    steps: int,
) -> torch.Tensor:
    """The latents (B, C, h, w) at the noisy end, of images of one size (Song et al., 2021).

    Without guidance: each step follows the noise that is predicted for the image's own prompt. The
    steps are those of diffusers' `DDIMInverseScheduler`.
    """
    import torch
    from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler

    config: Any = pipe.scheduler.config
    scheduler: Any = DDIMInverseScheduler.from_config(config, clip_sample=False)
    scheduler.set_timesteps(steps, device=device_of(pipe))
    with torch.inference_mode():
        latents = autoencoder.mean_latents(autoencoder.posteriors(images))
        height, width = (side * pipe.vae_scale_factor for side in latents.shape[-2:])
        text = unet_arguments(encode_prompts(pipe, prompts), width=width, height=height)
        for t in scheduler.timesteps:
            noise = pipe.unet(latents, t, **text, return_dict=False)[0]
            latents = scheduler.step(noise, t, latents, return_dict=False)[0]
    return latents
