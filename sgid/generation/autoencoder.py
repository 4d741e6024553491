"""Images to latents and back, through the VAE of a Stable Diffusion pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.generation.acceleration import load_tiny_vae
from sgid.generation.memory import device_of, slice_vae

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@final
class Autoencoder:
    """The VAE of `pipe`, which gives latents (B, C, h, w) of the denoiser's scale.

    With `upcast` it computes in float32 whatever the denoiser does, and an image at a time: the
    VAE of XL overflows float16 on most inputs, and its images are large.

    The `AutoencoderTiny` in the folder `tiny` decodes in its stead, where that is given. `memory`
    is a mode of `sgid.generation.memory`.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        dtype: torch.dtype,
        upcast: bool,
        tiny: Path | None,
        memory: str | None = None,
    ) -> None:
        import torch

        self.vae = pipe.vae.to(memory_format=torch.channels_last).requires_grad_(False)

        self.processor = pipe.image_processor
        self.dtype = dtype
        if upcast:
            self.vae.to(torch.float32)
            self.vae.enable_slicing()
        slice_vae(self.vae, memory)
        self.device = device_of(pipe)
        self.decoder = load_tiny_vae(tiny, like=self.vae) if tiny else self.vae
        # VAEs whose latents are not of mean 0 say so.
        mean = self.vae.config.get("latents_mean") or [0.0]
        std = self.vae.config.get("latents_std") or [1.0]
        self.mean = torch.tensor(mean, device=self.device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=self.device).view(1, -1, 1, 1)

    def posteriors(self, images: Sequence[Image]) -> torch.Tensor:
        """Mean and deviation of the latents of images of one size, (B, 2, C, h, w)."""
        import torch

        pixels = self.processor.preprocess(list(images))  # (B, 3, H, W) in [-1, 1]
        pixels = pixels.to(self.device, self.vae.dtype, memory_format=torch.channels_last)
        posterior = self.vae.encode(pixels).latent_dist
        return torch.stack([posterior.mean, posterior.std], dim=1)

    def mean_latents(self, posteriors: torch.Tensor) -> torch.Tensor:
        """The mean latents (B, C, h, w) of posteriors (B, 2, C, h, w)."""
        mean, std = self.mean.to(self.dtype), self.std.to(self.dtype)
        return (posteriors[:, 0].to(self.dtype) - mean) * self.vae.config.scaling_factor / std

    def conditions(self, posteriors: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, C, h, w): the mean latents of images to edit, as the VAE itself scales them."""
        import torch

        return torch.stack([mean for mean, _ in posteriors]).to(self.dtype)

    def sample(
        self, posteriors: Sequence[torch.Tensor], generators: list[torch.Generator]
    ) -> torch.Tensor:
        """Latents (B, C, h, w), row i drawn from posterior i, (2, C, h, w), with generator i."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        mean, std = torch.stack(list(posteriors)).unbind(1)
        noise = randn_tensor(mean.shape, generator=generators, device=mean.device, dtype=mean.dtype)
        latents = (mean + std * noise).to(self.dtype)
        mean, std = self.mean.to(self.dtype), self.std.to(self.dtype)
        return (latents - mean) * self.vae.config.scaling_factor / std

    def decode(self, latents: torch.Tensor) -> Callable[[], list[Image | None]]:
        """Begin to decode; what waits for the images, `None` in the place of one not finite."""
        import numpy as np
        import torch
        from PIL.Image import fromarray

        pixels = self.pixels(latents)
        # Of the latents too: an `AutoencoderTiny` makes finite pixels of infinite ones.
        finite = _finite(latents) & _finite(pixels)
        levels, finite = _to_host(_levels(pixels)), _to_host(finite)

        def wait() -> list[Image | None]:
            if pixels.is_cuda:
                done.synchronize()
            images = zip(np.asarray(levels), finite.tolist(), strict=True)
            return [fromarray(image) if whole else None for image, whole in images]

        if pixels.is_cuda:
            done = torch.cuda.Event()
            done.record()
        return wait

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) latents decoded to (B, 3, H, W), about [-1, 1]; autograd can follow."""
        return self.decoder.decode(self._as_the_decoder_takes_them(latents), return_dict=False)[0]

    def _as_the_decoder_takes_them(self, latents: torch.Tensor) -> torch.Tensor:
        latents = latents.to(self.decoder.dtype)
        if self.decoder is not self.vae:
            return latents
        mean, std = self.mean.to(latents.dtype), self.std.to(latents.dtype)
        return latents * std / self.vae.config.scaling_factor + mean


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """(B, ...) -> (B,)."""
    return tensor.isfinite().flatten(1).all(1)


def _levels(pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3), rounded as diffusers does."""
    import torch

    shares = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    return (shares.float() * 255).round().to(torch.uint8).contiguous()


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Begin to copy from the device; what comes is there when the device has caught up."""
    import torch

    if not tensor.is_cuda:
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
