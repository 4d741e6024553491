"""The batched engine: many sources, captions, guidance scales and seeds in one batch.

It takes the parts of a Stable Diffusion pipeline and runs its own loop over them. Each image gets
what diffusers' own pipeline gives for it alone: its noise comes from a generator of its own, its
guidance scale is its own, and the unconditional half is left out where guidance is 1 or less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from sgid.records import Generated, Request

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


class Engine(Protocol):
    """Draws images."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One image per request, in any order."""
        ...


@final
class StableDiffusionEngine:
    """Stable Diffusion 1.x/2.x text-to-image and img2img over mixed batches.

    Args:
        folder: a diffusers pipeline with vae, unet, text_encoder, tokenizer and scheduler.
        steps: denoising steps at strength 1; `int(steps * strength)` of them are run.
        scheduler: name of a diffusers scheduler class; it takes over the folder's own settings.
        resolution: side in pixels of images drawn from text alone.
        batch_size: images per batch; halved, for good, when the device runs out of memory.
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
        import diffusers

        kind: Any = diffusers
        self.pipe: Any = kind.StableDiffusionImg2ImgPipeline.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        ).to(device, dtype)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.scheduler = _scheduler(scheduler, self.pipe.scheduler.config)
        self.steps = steps
        self.resolution = resolution
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One image per request; requests that can share a batch do."""
        buckets = defaultdict(list)
        for request in requests:
            size = request.init_image.size if request.init_image else None
            buckets[size, request.strength, request.guidance_scale > 1].append(request)
        embeddings = self._encode_prompts(requests)
        for bucket in buckets.values():
            yield from self._generate_bucket(bucket, embeddings)

    def _generate_bucket(
        self, bucket: Sequence[Request], embeddings: dict[str, torch.Tensor]
    ) -> Iterator[Generated]:
        import torch

        start = 0
        while start < len(bucket):
            batch = bucket[start : start + self.batch_size]
            try:
                images = self._generate_batch(batch, embeddings)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                images = None
            if images is None:
                # Out here, since the error holds on to the frames that hold the memory.
                self.batch_size = len(batch) // 2
                torch.cuda.empty_cache()
                continue
            yield from map(Generated, batch, images)
            start += len(batch)

    def _encode_prompts(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """(T, D) for each distinct prompt, and for the empty one."""
        import torch

        prompts = sorted({"", *(request.prompt for request in requests)})
        embeddings = {}
        with torch.inference_mode():
            for start in range(0, len(prompts), self.batch_size):
                some = prompts[start : start + self.batch_size]
                encoded, _ = self.pipe.encode_prompt(some, self.device, 1, False)
                embeddings.update(zip(some, encoded, strict=True))
        return embeddings

    def _generate_batch(
        self, batch: Sequence[Request], embeddings: dict[str, torch.Tensor]
    ) -> list[Image]:
        """Images for requests of one size, one strength, and guidance all above 1 or all not."""
        import torch

        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
        with torch.inference_mode():
            latents, timesteps = self._start(batch, generators)
            latents = self._denoise(latents, timesteps, batch, embeddings, generators)
            pixels = self._decode(latents)  # (B, 3, H, W) in [-1, 1]
        return self.pipe.image_processor.postprocess(pixels, output_type="pil")

    def _start(
        self, batch: Sequence[Request], generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The noisy latents (B, C, h, w) to start from, and the timesteps that remain."""
        import torch

        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(self.steps, device=self.device)
        if batch[0].init_image is None:
            side = self.resolution // self.pipe.vae_scale_factor
            shape = (self.pipe.unet.config.in_channels, side, side)
            noise = self._noise(shape, generators)
            return noise * scheduler.init_noise_sigma, scheduler.timesteps

        timesteps, _ = self.pipe.get_timesteps(self.steps, batch[0].strength, self.device)
        latents = self._encode_images(batch, generators)
        noise = self._noise(latents.shape[1:], generators)
        start = timesteps[:1].repeat(len(batch))
        return torch.as_tensor(scheduler.add_noise(latents, noise, start)), timesteps

    def _encode_images(
        self, batch: Sequence[Request], generators: list[torch.Generator]
    ) -> torch.Tensor:
        """VAE latents (B, C, h, w), sampled per request; an image is encoded once per batch."""
        import torch

        distinct = {id(request.init_image): request.init_image for request in batch}
        pixels = self.pipe.image_processor.preprocess(list(distinct.values()))
        posterior = self.pipe.vae.encode(pixels.to(self.device, self.dtype)).latent_dist
        position = {key: i for i, key in enumerate(distinct)}
        rows = torch.tensor([position[id(request.init_image)] for request in batch])
        mean, std = posterior.mean[rows], posterior.std[rows]
        latents = mean + std * self._noise(mean.shape[1:], generators)
        return latents * self.pipe.vae.config.scaling_factor

    def _noise(self, shape: Sequence[int], generators: list[torch.Generator]) -> torch.Tensor:
        """(B, *shape), row i drawn from generator i on the CPU, so that devices agree."""
        import torch

        rows = [torch.randn(1, *shape, generator=g, dtype=self.dtype) for g in generators]
        return torch.cat(rows).to(self.device)

    def _denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        batch: Sequence[Request],
        embeddings: dict[str, torch.Tensor],
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        """Classifier-free guidance (Ho & Salimans, 2022) with a scale for each image."""
        import torch

        scheduler, unet = self.pipe.scheduler, self.pipe.unet
        extra = self.pipe.prepare_extra_step_kwargs(generators, 0.0)
        guided = batch[0].guidance_scale > 1
        text = torch.stack([embeddings[request.prompt] for request in batch])  # (B, T, D)
        if guided:
            text = torch.cat([embeddings[""].expand_as(text), text])  # (2B, T, D)
        scale = torch.tensor([request.guidance_scale for request in batch], device=self.device)
        scale = scale.to(latents.dtype).view(-1, 1, 1, 1)

        for t in timesteps:
            inputs = torch.cat([latents, latents]) if guided else latents
            inputs = scheduler.scale_model_input(inputs, t)
            noise = unet(inputs, t, encoder_hidden_states=text, return_dict=False)[0]
            if guided:
                unconditional, conditional = noise.chunk(2)
                noise = unconditional + scale * (conditional - unconditional)
            latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
        return latents

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        import torch

        vae = self.pipe.vae
        latents = latents / vae.config.scaling_factor
        pixels = vae.decode(latents, return_dict=False)[0]
        overflown = ~torch.isfinite(pixels).flatten(1).all(1)  # (B,)
        if self.dtype != torch.float32 and overflown.any():
            # The VAE of SD 1.x overflows float16 on some inputs. The others keep what they have,
            # so that no image depends on its neighbours.
            vae.to(torch.float32)
            try:
                again = vae.decode(latents[overflown].float(), return_dict=False)[0]
            finally:
                vae.to(self.dtype)
            pixels = pixels.float()
            pixels[overflown] = again
        return pixels


def _scheduler(name: str, config: Any) -> Any:
    """The diffusers scheduler `name`, with the noise schedule that the model was trained on."""
    import diffusers

    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "add_noise"):
        raise ValueError(
            f"models.generator.scheduler={name}: no such diffusers scheduler; for example "
            "DPMSolverMultistepScheduler, DDIMScheduler, UniPCMultistepScheduler"
        )
    return kind.from_config(config)
