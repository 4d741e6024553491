"""Requests to generate, and the same images through diffusers' own pipelines, one at a time."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sgid.records import Described, Request
from tests.conftest import MODELS
from tests.data.writers import picture

PROMPTS = ("a photo of a bag", "a photo of a ankle boot, with a high shaft", "dark coat")


def request(
    index: int,
    *,
    init: Image.Image | None,
    strength: float = 0.5,
    scale: float = 5.0,
    prompt: str = PROMPTS[0],
) -> Request:
    described = Described(f"k{index}", 0, "bag", "a bag", 0.2, (), ())
    return Request(described, 0, "sgid", prompt, init, strength, scale, 10**6 + index, 0, "bag")


def varied(count: int = 18) -> list[Request]:
    """All kinds in one list: sizes, strengths, prompts, guidance scales (also none), sources."""
    sources = [picture(i, 0, 32) for i in range(4)]
    sources += [picture(i, 1, 40).crop((0, 0, 24, 40)) for i in range(2)]
    return [
        request(
            index,
            init=sources[index % len(sources)],
            strength=(0.5, 1.0)[index // 6 % 2],
            scale=(1.0, 7.5, 0.0, 3.0, 1.5)[index % 5],
            prompt=PROMPTS[index % len(PROMPTS)],
        )
        for index in range(count)
    ]


def key(request: Request) -> str:
    return request.described.key


def draw(engine: Any, requests: list[Request]) -> dict[str, Image.Image]:
    """The engine's images by key; exactly one for each request."""
    made = list(engine.generate(requests))
    assert sorted(key(one.request) for one in made) == sorted(map(key, requests))
    return {key(one.request): one.image for one in made}


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of a pixel's channel, in grey levels."""
    assert one.size == other.size and one.mode == other.mode == "RGB"
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


@cache
def _pipeline(folder: Path, task: str, dtype: torch.dtype) -> Any:
    import diffusers

    index = json.loads((folder / "model_index.json").read_text())
    without = {part: None for part, named in index.items() if named == [None, None]}
    pipe = getattr(diffusers, f"AutoPipelineFor{task}").from_pretrained(
        folder, dtype=dtype, local_files_only=True, **without
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def reference(
    request: Request,
    *,
    steps: int,
    scheduler: str = "own",
    folder: Path = MODELS / "sd",
    dtype: torch.dtype = torch.float32,
) -> Image.Image:
    """What diffusers' own pipeline gives for one request."""
    import diffusers

    pipe = _pipeline(folder, "Image2Image" if request.init_image else "Text2Image", dtype)
    config = diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")
    kind = config["_class_name"] if scheduler == "own" else scheduler
    pipe.scheduler = getattr(diffusers, kind).from_config(config)
    where = (
        {"image": request.init_image, "strength": request.strength}
        if request.init_image
        else {"height": 32, "width": 32}
    )
    if request.init_image and "height" in inspect.signature(pipe.__call__).parameters:
        where |= {"width": request.init_image.width, "height": request.init_image.height}
    return pipe(
        request.prompt,
        **where,
        num_inference_steps=steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
    ).images[0]
