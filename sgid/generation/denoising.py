"""The denoising loop of Stable Diffusion 1, 2 and XL: schedule, text conditioning, and
classifier-free guidance with a scale for each image.

XL differs in two ways: its second text encoder also gives one pooled vector per prompt, and the
UNet receives the size of the image (Podell et al., 2023, section 2.2).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, final

from sgid.generation.acceleration import DeepCache, guided_steps
from sgid.generation.hooks import deterministic_step, predicted_original
from sgid.generation.memory import device_of

if TYPE_CHECKING:
    import torch

    from sgid.generation.image_prompt import ImageEmbedding

AfterStep = Callable[[Any, int, int, Callable[[], Any], Callable[..., Any]], Any]
"""From latents, the steps done and all steps, the predicted clean latents, and a look ahead (see
`sgid.generation.hooks.LatentState.go_on`), to latents."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of a batch beside its texts; of each, what is `None` is not there.

    Args:
        image_prompts: embeddings of images, and the scale of each; the IP-Adapter is in the UNet.
        edges: pixels (B, 3, H, W) in [0, 1], and the scale of each: for the ControlNet.
        edited: latents (B, C, h, w) of the images to edit, and the scale of the guidance towards
            each: for the UNet of an InstructPix2Pix.
    """

    image_prompts: tuple[Sequence[ImageEmbedding], Sequence[float]] | None = None
    edges: tuple[torch.Tensor, Sequence[float]] | None = None
    edited: tuple[torch.Tensor, Sequence[float]] | None = None


@final
class Denoiser:
    """The UNet and the scheduler of a Stable Diffusion pipeline.

    Args:
        compile: mode of `torch.compile` for the UNet, or `None`.
        guidance_interval: the share of the noise schedule in which there is guidance.
        deep_cache: see `sgid.generation.acceleration.DeepCache`; 1 is without.
        stop: asked before each step; when it says so the work is given up.
        controlnet: what follows edges, or `None`.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        compile: str | None,
        guidance_interval: Sequence[float],
        deep_cache: int,
        stop: Callable[[], bool],
        controlnet: Any = None,
    ) -> None:
        import torch

        self.pipe = pipe
        self.controlnet = controlnet
        pipe.unet.requires_grad_(False)  # hooks take gradients of latents alone
        unet = pipe.unet.to(memory_format=torch.channels_last)
        self.unet: Any = compiled(unet, compile) if compile else unet
        self.cache = None
        if deep_cache > 1:
            self.cache = DeepCache(unet, interval=deep_cache, whole=self.unet)
        self.interval = guidance_interval
        self.stop = stop

    def schedule(self, steps: int, strength: float | None) -> tuple[Any, torch.Tensor]:
        """A scheduler for one batch, and its timesteps; with a strength, the last of them.

        These are `int(steps * strength)`, as diffusers' img2img pipelines count.
        """
        scheduler = copy.deepcopy(self.pipe.scheduler)  # it counts its steps
        scheduler.set_timesteps(steps, device=device_of(self.pipe))
        if strength is None:
            return scheduler, scheduler.timesteps
        skipped = max(steps - min(int(steps * strength), steps), 0) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):  # else it would have to look for it
            scheduler.set_begin_index(skipped)
        return scheduler, scheduler.timesteps[skipped:]

    def __call__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        scheduler: Any,
        *,
        texts: Sequence[PromptEmbedding],
        negatives: Sequence[PromptEmbedding],
        scales: Sequence[float],
        generators: list[torch.Generator],
        later: tuple[float, Sequence[PromptEmbedding]] | None = None,
        blend: tuple[torch.Tensor, Sequence[PromptEmbedding]] | None = None,
        given: Conditions | None = None,
        after_step: AfterStep | None = None,
    ) -> torch.Tensor:
        """Clean latents (B, C, h, w), guided with a scale for each image (Ho & Salimans, 2022).

        Guidance leads away from `negatives`. The unconditional half is left out where no scale is
        above 1. Images that are edited are guided towards the original as well, by a third pass
        (Brooks et al., 2023, eq. 3). `later` are texts that are followed once a share of the noise
        schedule is done. `blend` is a mask (B, 1, h, w), and texts that are followed where it is 0.
        `after_step` may change the latents after each step.
        """
        import torch

        extra = self.pipe.prepare_extra_step_kwargs(generators, 0.0)
        height, width = (side * self.pipe.vae_scale_factor for side in latents.shape[-2:])
        scale = _column(scales, latents)
        total = scheduler.config.num_train_timesteps
        guided = guided_steps(timesteps, self.interval, total=total)
        if not any(scale > 1 for scale in scales):
            guided = [False] * len(timesteps)
        predict = self.cache.denoiser() if self.cache else self.unet
        own = slice(None)

        given = given or Conditions()
        originals, image_scales = given.edited or (latents, [0.0] * len(latents))
        edits, image_scale = given.edited is not None, _column(image_scales, latents)

        @cache
        def conditioning(guide: bool, is_later: bool, start: int | None, stop: int | None) -> Any:
            """The UNet's arguments for all passes, the ControlNet's own, and images to edit."""
            rows, followed = slice(start, stop), later[1] if later and is_later else texts
            unguided = [negatives] * (1 + edits) if guide else []
            passes = [*unguided, followed, *([blend[1]] if blend else [])]
            text = unet_arguments([one for part in passes for one in part[rows]],
                                  width=width, height=height)  # fmt: skip
            control, images = None, None
            if given.edges is not None:
                pixels, strengths = given.edges
                scales = _column(strengths[rows], latents).repeat(len(passes), 1, 1, 1)
                control = {**text, "controlnet_cond": torch.cat([pixels[rows]] * len(passes)),
                           "conditioning_scale": scales}  # fmt: skip
            if edits:  # none of them in the first of three passes
                seen = [originals[rows] * (not (guide and i == 0)) for i in range(len(passes))]
                images = torch.cat(seen)
            if given.image_prompts is not None:
                from sgid.generation.image_prompt import image_arguments

                embeddings, strengths = given.image_prompts
                embeds = [
                    one.negative if i < len(unguided) else one.embeds
                    for i in range(len(passes))
                    for one in embeddings[rows]
                ]
                scales = latents.new_tensor([*strengths[rows]] * len(passes))
                prompt = {"image_embeds": image_arguments(embeds, scales)}
                more = {**text.get("added_cond_kwargs", {}), **prompt}
                text = {**text, "added_cond_kwargs": more}
            return len(passes), text, control, images

        def noise_at(
            latents: torch.Tensor, step: int, network: Any, rows: slice = own
        ) -> torch.Tensor:
            t, guide = timesteps[step], guided[step]
            is_later = later is not None and float(t) < total * (1 - later[0])
            copies, text, control, images = conditioning(guide, is_later, rows.start, rows.stop)
            inputs = torch.cat([latents] * copies) if copies > 1 else latents
            inputs = scheduler.scale_model_input(inputs, t)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            if control is not None:
                down, middle = self.controlnet(inputs, t, **control, return_dict=False)
                text = {**text, "down_block_additional_residuals": down,
                        "mid_block_additional_residual": middle}  # fmt: skip
            if images is not None:
                inputs = torch.cat([inputs, images], dim=1)
            noise = network(inputs, t, **text, return_dict=False)[0]
            if copies == 1:
                return noise
            parts = list(noise.chunk(copies))
            if blend is not None:
                other, mask = parts.pop(), blend[0][rows]
                parts[-1] = mask * parts[-1] + (1 - mask) * other
            if not guide:
                return parts[0]
            if edits:
                noise_uncond, noise_image, noise_text = parts
                towards_image = image_scale[rows] * (noise_image - noise_uncond)
                return noise_uncond + scale[rows] * (noise_text - noise_image) + towards_image
            noise_uncond, noise_text = parts
            return noise_uncond + scale[rows] * (noise_text - noise_uncond)

        def go_on(done: int, latents: torch.Tensor, rows: slice, count: int) -> torch.Tensor:
            """Clean latents predicted `count` steps on, without the solver's memory of steps."""
            for step in range(done, min(done + count, len(timesteps))):
                noise = noise_at(latents, step, self.pipe.unet, rows)
                t = timesteps[step]
                original = predicted_original(scheduler, noise, t, latents)
                if step + 1 in (done + count, len(timesteps)):
                    return original
                latents = deterministic_step(scheduler, original, latents, t, timesteps[step + 1])
            return latents

        for step, t in enumerate(timesteps):
            if self.stop():
                raise Stopped
            noise = noise_at(latents, step, predict)
            before = latents
            latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
            if after_step is not None:
                original = partial(predicted_original, scheduler, noise, t, before)
                ahead = partial(go_on, step + 1)
                latents = after_step(latents, step + 1, len(timesteps), original, ahead)
        return latents


def _column(numbers: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, 1), of the format and on the device of `like`."""
    return like.new_tensor(list(numbers)).view(-1, 1, 1, 1)


class Stopped(Exception):
    """The work was given up."""


def compiled(unet: Any, mode: str) -> Any:
    """`unet` compiled; what it returns is the caller's, as without."""
    import torch

    fast = torch.compile(unet, mode=mode)
    first, seen = threading.Lock(), set()

    def call(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        # Threads that meet a new shape at once would each compile it, again and again.
        with nullcontext() if latents.shape in seen else first:
            noise = fast(latents, *args, **kwargs)
            seen.add(latents.shape)
        # What CUDA graphs return is overwritten by the next call.
        return noise if mode == "default" else tuple(part.clone() for part in noise)

    return call


@dataclass(frozen=True)
class PromptEmbedding:
    """One prompt: a state for each token, (T, D), and with XL one for the whole, (P,)."""

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        return self.prompt_embeds.nbytes + (
            0 if self.pooled_prompt_embeds is None else self.pooled_prompt_embeds.nbytes
        )


def encode_prompts(pipe: Any, prompts: Sequence[str]) -> list[PromptEmbedding]:
    """The texts of prompts, in one batch."""
    # SD gives (tokens, negative), XL (tokens, negative, whole, negative whole).
    tokens, _, *more = pipe.encode_prompt(
        list(prompts),
        device=device_of(pipe),
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    wholes = more[0] if more else [None] * len(prompts)
    # Copies, since one that is kept would keep its whole batch.
    return [
        PromptEmbedding(one.clone(), None if whole is None else whole.clone())
        for one, whole in zip(tokens, wholes, strict=True)
    ]


def encode_negative_prompt(pipe: Any) -> PromptEmbedding:
    """Embedding that guidance leads away from: the empty prompt, or zeros with most XL models."""
    (empty,) = encode_prompts(pipe, [""])
    if empty.pooled_prompt_embeds is None or not pipe.config.force_zeros_for_empty_prompt:
        return empty
    return PromptEmbedding(
        empty.prompt_embeds.new_zeros(empty.prompt_embeds.shape),
        empty.pooled_prompt_embeds.new_zeros(empty.pooled_prompt_embeds.shape),
    )


def unet_arguments(texts: Sequence[PromptEmbedding], *, width: int, height: int) -> dict[str, Any]:
    """The UNet's keyword arguments for a batch of images of `width` x `height` pixels."""
    import torch

    tokens = torch.stack([text.prompt_embeds for text in texts])  # (B, T, D)
    wholes = [text.pooled_prompt_embeds for text in texts if text.pooled_prompt_embeds is not None]
    if not wholes:
        return {"encoder_hidden_states": tokens}
    # Original size, offset of the crop, size to draw: an image that is whole and not resized.
    sizes = tokens.new_tensor([height, width, 0, 0, height, width]).expand(len(texts), -1)
    more = {"text_embeds": torch.stack(wholes), "time_ids": sizes}  # (B, P), (B, 6)
    return {"encoder_hidden_states": tokens, "added_cond_kwargs": more}
