"""The batched engine: many sources, captions, guidance scales and seeds in one batch.

It takes the parts of a Stable Diffusion pipeline and runs its own loop over them. Each image gets
what diffusers' own pipeline gives for it alone: its noise comes from a generator of its own, its
guidance scale is its own, and the unconditional half is left out where guidance is 1 or less.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from sgid.generation.autoencoder import Autoencoder
from sgid.generation.batching import Batches
from sgid.generation.conditioning import Text, encode, encode_none, unet_arguments
from sgid.generation.loading import load
from sgid.records import Generated, Request

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

SERVED = tuple(
    f"StableDiffusion{size}{task}Pipeline" for size in ("", "XL") for task in ("", "Img2Img")
)
"""The pipelines that this loop can stand in for: Stable Diffusion 1, 2, XL, and turbo ones."""


class Engine(Protocol):
    """Draws images."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One image per request, in any order."""
        ...


@final
class StableDiffusionEngine:
    """Stable Diffusion 1.x, 2.x and XL, text-to-image and img2img over mixed batches.

    Args:
        folder: a diffusers pipeline, one of `SERVED`.
        steps: denoising steps at strength 1; `int(steps * strength)` of them are run.
        scheduler: name of a diffusers scheduler class, which takes over the settings of the
            folder's own; or "own" for that one itself.
        resolution: side in pixels of images drawn from text alone.
        batch_size: images per batch; halved, for good, when the device runs out of memory.

    Raises:
        ValueError: when the folder holds another kind of pipeline.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps: int,
        scheduler: str,
        resolution: int,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        import torch
        from diffusers.pipelines.auto_pipeline import AutoPipelineForImage2Image

        pipe = load(folder, scheduler=scheduler, device=device, dtype=dtype)
        if why := _not_served(pipe):
            raise ValueError(
                f"models.generator.weights: {folder} {why}; this engine draws with "
                f"{', '.join(SERVED)}. Take models=any, which draws with whatever diffusers can"
            )
        self.pipe = AutoPipelineForImage2Image.from_pipe(pipe)
        is_xl = "XL" in type(pipe).__name__
        upcast = is_xl and pipe.vae.config.force_upcast and dtype != torch.float32
        self.autoencoder = Autoencoder(self.pipe, dtype=dtype, upcast=upcast)
        self.batches = Batches(batch_size)
        self.steps = steps
        self.resolution = resolution
        self.device = device
        self.dtype = dtype

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One image per request; requests that can share a batch do."""
        texts = self._texts(requests)
        yield from self.batches.draw(
            requests, lambda batch: self._draw(batch, texts), alike=_can_share_a_batch
        )

    def _texts(self, requests: Sequence[Request]) -> dict[str | None, Text]:
        """What each distinct prompt says; under `None`, what guidance leads away from."""
        import torch

        prompts = sorted({request.prompt for request in requests})
        texts: dict[str | None, Text] = {}
        with torch.inference_mode():
            texts[None] = encode_none(self.pipe)
            for start in range(0, len(prompts), self.batches.size):
                some = prompts[start : start + self.batches.size]
                texts.update(zip(some, encode(self.pipe, some), strict=True))
        return texts

    def _draw(self, batch: Sequence[Request], texts: dict[str | None, Text]) -> list[Image]:
        """Images for requests that can share a batch."""
        import torch

        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
        with torch.inference_mode():
            latents, timesteps = self._start(batch, generators)
            latents = self._denoise(latents, timesteps, batch, texts, generators)
            return self.autoencoder.decode(latents)

    def _start(
        self, batch: Sequence[Request], generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The noisy latents (B, C, h, w) to start from, and the timesteps that remain."""
        import torch

        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(self.steps, device=self.device)
        images = [request.init_image for request in batch if request.init_image is not None]
        if not images:
            side, rest = divmod(self.resolution, self.pipe.vae_scale_factor)
            if rest:
                raise ValueError(
                    f"models.generator.resolution={self.resolution}: must be a multiple of "
                    f"{self.pipe.vae_scale_factor} for this model"
                )
            shape = (len(batch), self.pipe.unet.config.in_channels, side, side)
            return self._noise(shape, generators) * scheduler.init_noise_sigma, scheduler.timesteps

        timesteps, _ = self.pipe.get_timesteps(self.steps, batch[0].strength, self.device)
        latents = self.autoencoder.encode(images, generators)
        noise = self._noise(latents.shape, generators)
        start = timesteps[:1].repeat(len(batch))
        return torch.as_tensor(scheduler.add_noise(latents, noise, start)), timesteps

    def _noise(self, shape: tuple[int, ...], generators: list[torch.Generator]) -> torch.Tensor:
        """(B, ...), row i drawn from generator i on the CPU, so that devices agree."""
        from diffusers.utils.torch_utils import randn_tensor

        return randn_tensor(shape, generator=generators, device=self.device, dtype=self.dtype)

    def _denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        batch: Sequence[Request],
        texts: dict[str | None, Text],
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        """Classifier-free guidance (Ho & Salimans, 2022) with a scale for each image."""
        import torch

        scheduler, unet = self.pipe.scheduler, self.pipe.unet
        extra = self.pipe.prepare_extra_step_kwargs(generators, 0.0)
        guided = batch[0].guidance_scale > 1
        height, width = (side * self.pipe.vae_scale_factor for side in latents.shape[-2:])
        told = [texts[None]] * len(batch) if guided else []
        told += [texts[request.prompt] for request in batch]
        text = unet_arguments(told, width=width, height=height)  # of B or 2B rows
        scale = torch.tensor([request.guidance_scale for request in batch], device=self.device)
        scale = scale.to(latents.dtype).view(-1, 1, 1, 1)

        for t in timesteps:
            inputs = torch.cat([latents, latents]) if guided else latents
            inputs = scheduler.scale_model_input(inputs, t)
            noise = unet(inputs, t, **text, return_dict=False)[0]
            if guided:
                unconditional, conditional = noise.chunk(2)
                noise = unconditional + scale * (conditional - unconditional)
            latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
        return latents


def _not_served(pipe: Any) -> str | None:
    """Why this loop would not give what the pipeline itself does, if so."""
    if (name := type(pipe).__name__) not in SERVED:
        return f"holds a {name}"
    if pipe.unet.config.time_cond_proj_dim is not None:
        return "has a UNet that is told its guidance scale"
    if pipe.config.get("requires_aesthetics_score"):
        return "is a refiner, which is told an aesthetic score"
    return None


def _can_share_a_batch(request: Request) -> Hashable:
    """Requests of one size, one strength, and guidance all above 1 or all not."""
    size = request.init_image.size if request.init_image else None
    return size, request.strength, request.guidance_scale > 1
