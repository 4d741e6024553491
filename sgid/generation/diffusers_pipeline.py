"""An engine around any text-to-image or image-to-image pipeline of diffusers, called as it is.

Slower than `sgid.generation.stable_diffusion` where that one serves: only requests of one strength
and one guidance scale share a call, and only if the pipeline draws a list as it draws each alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from sgid.generation.engine import Drawn, redrawn
from sgid.generation.hooks import LatentState
from sgid.models.diffusers import load
from sgid.records import Adapter, Generated, Request
from sgid.runtime.batching import adaptive_batcher, out_of_memory

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


OWN_LOOP = {
    "compile": None, "guidance_interval": [0.0, 1.0], "deep_cache": 1, "tiny_vae": None,
    "ip_adapter": None, "image_encoder": None, "controlnet": None, "memory": None,
}  # fmt: skip
"""Options of the project's own loop, each as it is when off."""


@final
class PipelineEngine:
    """Whatever diffusers' `AutoPipelineForImage2Image` and `AutoPipelineForText2Image` know.

    Args:
        folder: a diffusers pipeline; all of its parts must be in it.
        steps: denoising steps at strength 1.
        scheduler: "own", or the name of a diffusers scheduler class to take its place.
        resolution: side in pixels of images drawn from text alone.
        batch_size: images per call; halved, for good, when the device runs out of memory. "auto"
            finds it: see `sgid.runtime.batching`.
        lora: what is added to the weights, for all images.
        checkpoint: the weights in one file, where `folder` has the configs alone.
        remembered: where the sizes that "auto" finds are written down, or `None`.
        own_loop: what only `sgid.generation.stable_diffusion` has, and must be off here.

    Raises:
        ValueError: when one of `own_loop` is asked for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps: int,
        scheduler: str,
        resolution: int,
        batch_size: int | str,
        device: torch.device,
        dtype: torch.dtype,
        lora: Sequence[Adapter] = (),
        checkpoint: Path | None = None,
        remembered: Path | None = None,
        **own_loop: Any,
    ) -> None:
        if asked := {key: value for key, value in own_loop.items() if value != OWN_LOOP[key]}:
            raise ValueError(f"{asked}: only sgid.generation.stable_diffusion has these")
        import torch

        self.loaded = load(
            folder, scheduler=scheduler, device=device, dtype=dtype, lora=lora,
            checkpoint=checkpoint,
        )  # fmt: skip
        self.folder = checkpoint or folder
        self.dtype = dtype
        self.steps = steps
        self.resolution = resolution
        self.batches = adaptive_batcher(
            batch_size, device=device, latent_side=resolution // 8,
            name=f"{checkpoint or folder}, {dtype}, {resolution} px", remembered=remembered,
        )  # fmt: skip
        self._painters: dict[bool, Painter] = {}
        # One at a time, so that no image hangs on which others are drawn again.
        self.in_float32 = partial(
            PipelineEngine, folder,
            scheduler=scheduler, resolution=resolution, batch_size=1, device=device,
            dtype=torch.float32, lora=lora, checkpoint=checkpoint,
        )  # fmt: skip

    def generate(
        self, requests: Sequence[Request], hook: Callable[[LatentState], Any] | None = None
    ) -> Iterator[Generated]:
        """One image per request.

        Those that are not finite or all black come last: see `sgid.generation.engine`.

        Raises:
            ValueError: when the pipeline cannot draw from an image, or not from text alone, or
                has no strength, guidance scale or negative prompt while the requests do; or for a
                hook, since pipelines keep their latents to themselves.
        """
        beyond = any(one.later or one.blend or one.start is not None for one in requests)
        if hook is not None or beyond:
            raise ValueError(
                f"aug={requests[0].method} looks at latents or several prompts of an image, which "
                "models=any does not show; take one of models=sd15, sd21, sdxl, ..."
            )
        if any(
            one.image_prompt or one.edges or one.image_guidance_scale is not None
            for one in requests
        ):
            raise ValueError(
                f"aug={requests[0].method} draws with image prompts, along edges or edits images, "
                "which models=any cannot; take one of models=sd15, sdxl, instruct_pix2pix, ..."
            )
        if any(one.tokens or one.adapters for one in requests):
            raise ValueError(
                f"aug={requests[0].method} draws with learned tokens or a LoRA of its own, which "
                "models=any cannot; take one of models=sd15, sd21, sdxl, ..."
            )
        return redrawn(
            self.draw(requests),
            asked=len(requests),
            dtype=self.dtype,
            exactly=lambda some: self.in_float32(steps=self.steps).draw(some),
            weights=self.folder,
        )

    def draw(self, requests: Sequence[Request]) -> Drawn:
        """Generate as `generate` does, but draw nothing a second time."""
        yield from self.batches.run(requests, self._draw, alike=_can_share_a_call)

    def _draw(self, batch: Sequence[Request]) -> Callable[[], list[Image | None]]:
        from_image = batch[0].init_image is not None
        if from_image not in self._painters:
            pipe = _for_task(self.loaded, from_image=from_image)
            self._painters[from_image] = Painter(pipe, self.steps, self.resolution)
        painter = self._painters[from_image]
        painter.steps = self.steps  # another run may ask for others
        images = painter.draw(batch)
        return lambda: images


def _for_task(loaded: Any, *, from_image: bool) -> Any:
    """The pipeline for a task, over the same weights.

    Raises:
        ValueError: when diffusers has none.
    """
    import diffusers

    task = "Image2Image" if from_image else "Text2Image"
    try:
        pipe = getattr(diffusers, f"AutoPipelineFor{task}").from_pipe(loaded)
    except ValueError as error:
        what, other, example = "an image", "text alone", "text2img_label"
        if not from_image:
            what, other, example = other, what, "sgid"
        raise ValueError(
            f"models.generator: {type(loaded).__name__} cannot draw from {what} ({error}); take "
            f"a method that draws from {other}, such as aug={example}, or another model"
        ) from error
    if getattr(pipe, "watermark", None) is not None:
        pipe.watermark = None  # from_pipe makes it anew; a classifier would learn to see it
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _can_share_a_call(request: Request) -> Hashable:
    size = request.init_image.size if request.init_image else None
    return size, request.strength, request.guidance_scale


log = logging.getLogger(__name__)


@final
class Painter:
    """A pipeline for one task, called with lists where that gives what single calls give.

    Nothing that a pipeline says of itself tells whether it does, so it is tried once.
    """

    def __init__(self, pipe: Any, steps: int, resolution: int) -> None:
        self.pipe = pipe
        self.steps = steps
        self.resolution = resolution
        self.takes = frozenset(inspect.signature(pipe.__call__).parameters)
        self.takes_lists: bool | None = None  # not known yet

    def draw(self, batch: Sequence[Request]) -> list[Image | None]:
        """Images for requests of one size, strength and guidance scale; `None`: not finite."""
        if len(batch) > 1 and self.takes_lists is None:
            why_not = self._try_lists(batch[0])
            self.takes_lists = why_not is None
            if why_not:
                name = type(self.pipe).__name__
                log.warning("%s draws one image at a time: %s", name, why_not)
        if self.takes_lists:
            return self._call(batch)
        return [image for request in batch for image in self._call([request])]

    def _try_lists(self, like: Request) -> str | None:
        """Reason why two different requests do not come out of one call as alone, or `None`."""
        image = like.init_image
        # Enough noise to tell one seed from another, and not so much that the image is lost.
        one = replace(like, strength=max(like.strength, 0.75))
        two = replace(one, seed=one.seed + 1, prompt="a photo",
                      init_image=ImageOps.mirror(image) if image else None)  # fmt: skip
        alone = [*self._call([one]), *self._call([two])]
        if None in alone:
            return "what it draws is not finite, so that nothing tells whether several would do"
        try:
            together = self._call([one, two])
        except Exception as error:  # pipelines fail on lists in many ways
            if out_of_memory(error):
                raise
            return f"it fails on several ({type(error).__name__}: {error})"
        off = max(map(_mean_difference, together, alone))
        return f"several in one call come out {off:.1f} grey levels off" if off > 1 else None

    def _call(self, batch: Sequence[Request]) -> list[Image | None]:
        images = self.pipe(**self._arguments(batch)).images
        if len(images) != len(batch):
            raise ValueError(
                f"{type(self.pipe).__name__} gave {len(images)} images for {len(batch)} prompts"
            )
        return [_finite(image) for image in images]

    def _arguments(self, batch: Sequence[Request]) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call: lists for several requests."""
        import torch

        first = batch[0]
        name = type(self.pipe).__name__
        if first.init_image and first.strength < 1 and "strength" not in self.takes:
            raise ValueError(
                f"{name} edits images and has no strength, but noise_rate={first.strength:g} asks "
                "for one; take noise_rate=1, or another model"
            )
        if first.guidance_scale > 1 and "guidance_scale" not in self.takes:
            raise ValueError(
                f"{name} has no guidance scale, but {first.guidance_scale:g} is asked for; take "
                "guidance=off models.guidance_scale=1, or another model"
            )
        size = first.init_image.size if first.init_image else (self.resolution, self.resolution)
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
        each = {"prompt": [request.prompt for request in batch], "generator": generators}
        if any(request.negative_prompt for request in batch):
            if "negative_prompt" not in self.takes:
                raise ValueError(f"{name} has no negative prompt, but aug={first.method} has one")
            each["negative_prompt"] = [request.negative_prompt for request in batch]
        if first.init_image:
            each["image"] = [request.init_image for request in batch]
        given = {name: values if len(batch) > 1 else values[0] for name, values in each.items()}
        given |= {
            "num_inference_steps": self.steps,
            "strength": first.strength,
            "guidance_scale": first.guidance_scale,
            "width": size[0],
            "height": size[1],
            "output_type": "np",  # of what is no number "pil" makes black
        }
        return {name: value for name, value in given.items() if name in self.takes}


def _finite(image: NDArray[np.float32] | Image) -> Image | None:
    """An image as RGB; an array is (H, W, C) in [0, 1], and gives `None` where it is not finite."""
    if isinstance(image, np.ndarray):
        from diffusers.image_processor import VaeImageProcessor

        if not np.isfinite(image).all():
            return None
        (image,) = VaeImageProcessor.numpy_to_pil(image)
    return image.convert("RGB")


def _mean_difference(one: Image | None, other: Image | None) -> float:
    """Mean difference in grey levels; infinite between sizes, and where one is not finite."""
    if one is None or other is None or one.size != other.size:
        return float("inf")
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())
