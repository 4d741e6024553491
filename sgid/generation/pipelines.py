"""Any text-to-image or image-to-image pipeline of diffusers, called as it is.

Slower than `sgid.generation.engine` where that one serves: only requests of one strength and one
guidance scale share a call. Each image is what the pipeline gives for its request alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.generation.batch_size import batches
from sgid.generation.loading import load
from sgid.generation.painter import Painter
from sgid.generation.redrawing import Drawn, redrawn
from sgid.records import Generated, Request

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

OWN_LOOP = {"compile": None, "guidance_interval": [0.0, 1.0], "deep_cache": 1, "tiny_vae": None}
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
            finds it: see `sgid.generation.batch_size`.
        remembered: where the sizes that "auto" finds are written down, or `None`.
        own_loop: what only `sgid.generation.engine` has, and must be off here.

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
        remembered: Path | None = None,
        **own_loop: Any,
    ) -> None:
        if asked := {key: value for key, value in own_loop.items() if value != OWN_LOOP[key]}:
            raise ValueError(f"{asked}: only sgid.generation.engine has these")
        import torch

        self.loaded = load(folder, scheduler=scheduler, device=device, dtype=dtype)
        self.folder = folder
        self.dtype = dtype
        self.steps = steps
        self.resolution = resolution
        self.batches = batches(
            batch_size, device=device, latent_side=resolution // 8,
            name=f"{folder}, {dtype}, {resolution} px", remembered=remembered,
        )  # fmt: skip
        self._painters: dict[bool, Painter] = {}
        # One at a time, so that no image hangs on which others are drawn again.
        self.in_float32 = partial(
            PipelineEngine, folder,
            scheduler=scheduler, resolution=resolution, batch_size=1, device=device,
            dtype=torch.float32,
        )  # fmt: skip

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One image per request.

        Those that are not finite or all black come last: see `sgid.generation.redrawing`.

        Raises:
            ValueError: when the pipeline cannot draw from an image, or not from text alone, or
                has no strength or guidance scale while the requests do.
        """
        return redrawn(
            self.draw(requests),
            asked=len(requests),
            dtype=self.dtype,
            exactly=lambda some: self.in_float32(steps=self.steps).draw(some),
            weights=self.folder,
        )

    def draw(self, requests: Sequence[Request]) -> Drawn:
        """As `generate`, but nothing is drawn a second time."""
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
