"""Images to latents and back, through the VAE of a Stable Diffusion pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@final
class Autoencoder:
    """The VAE of `pipe`, which gives latents (B, C, h, w) of the denoiser's scale.

    With `upcast` it computes in float32 whatever the denoiser does, and an image at a time: the
    VAE of XL overflows float16 on most inputs, and its images are large.
    """

    def __init__(self, pipe: Any, *, dtype: torch.dtype, upcast: bool) -> None:
        import torch

        self.vae = pipe.vae
        self.processor = pipe.image_processor
        self.dtype = dtype
        if upcast:
            self.vae.to(torch.float32)
            self.vae.enable_slicing()
        # VAEs whose latents are not of mean 0 say so.
        mean = self.vae.config.get("latents_mean") or [0.0]
        std = self.vae.config.get("latents_std") or [1.0]
        self.mean = torch.tensor(mean, device=self.vae.device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=self.vae.device).view(1, -1, 1, 1)

    def encode(self, images: Sequence[Image], generators: list[torch.Generator]) -> torch.Tensor:
        """Latents of images of one size, row i sampled with generator i.

        An image that is there more than once, as one object, is encoded once.
        """
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        vae = self.vae
        distinct = {id(image): image for image in images}
        pixels = self.processor.preprocess(list(distinct.values()))  # (N, 3, H, W) in [-1, 1]
        posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        position = {key: i for i, key in enumerate(distinct)}
        rows = torch.tensor([position[id(image)] for image in images])
        mean, std = posterior.mean[rows], posterior.std[rows]
        noise = randn_tensor(mean.shape, generator=generators, device=mean.device, dtype=mean.dtype)
        latents = (mean + std * noise).to(self.dtype)
        mean, std = self.mean.to(self.dtype), self.std.to(self.dtype)
        return (latents - mean) * vae.config.scaling_factor / std

    def decode(self, latents: torch.Tensor) -> list[Image]:
        """Images of latents."""
        return self.processor.postprocess(self.pixels(latents), output_type="pil")

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), in [-1, 1] but for what the VAE overshoots."""
        import torch

        vae = self.vae
        latents = latents.to(vae.dtype)
        mean, std = self.mean.to(vae.dtype), self.std.to(vae.dtype)
        latents = latents * std / vae.config.scaling_factor + mean
        pixels = vae.decode(latents, return_dict=False)[0]
        overflown = ~torch.isfinite(pixels).flatten(1).all(1)  # (B,)
        if vae.dtype != torch.float32 and overflown.any():
            # The VAE of SD 1.x overflows float16 on some inputs. The others keep what they have,
            # so that no image depends on its neighbours.
            own = vae.dtype
            vae.to(torch.float32)
            try:
                again = vae.decode(latents[overflown].float(), return_dict=False)[0]
            finally:
                vae.to(own)
            pixels = pixels.float()
            pixels[overflown] = again
        return pixels
