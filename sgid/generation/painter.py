"""One diffusers pipeline for one task, called with several requests where it draws them rightly."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from sgid.batching import out_of_memory
from sgid.records import Request

if TYPE_CHECKING:
    from PIL.Image import Image

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
        """Why two requests that differ in all are not drawn together as they are alone, if so."""
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
        """What the call takes: lists for several requests, as it is for one."""
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
    """As RGB; an array is (H, W, C) in [0, 1], and gives `None` where it is not finite."""
    if isinstance(image, np.ndarray):
        from diffusers.image_processor import VaeImageProcessor

        if not np.isfinite(image).all():
            return None
        (image,) = VaeImageProcessor.numpy_to_pil(image)
    return image.convert("RGB")


def _mean_difference(one: Image | None, other: Image | None) -> float:
    """In grey levels; infinite between sizes, and where one is not finite."""
    if one is None or other is None or one.size != other.size:
        return float("inf")
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())
