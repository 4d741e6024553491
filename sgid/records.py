"""The vocabulary that the stages share: small frozen records, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image. `key` is stable: it does not change when other images come or go."""

    key: str
    image: Image
    label: int
    class_name: str


@dataclass(frozen=True, slots=True)
class Described:
    """A sample's candidate captions, best first chosen by similarity.

    `similarity` is the cosine between the CLIP embeddings of the image and of `caption`, in
    [-1, 1]; `scores` has one such cosine per candidate.
    """

    key: str
    label: int
    class_name: str
    caption: str
    similarity: float
    candidates: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One image to generate.

    `init_image` is what img2img starts from, `None` for text-to-image. `strength` in (0, 1] is the
    share of the noise schedule that is re-drawn (the paper's noise rate). `label` is the class the
    generated image will be trained as.
    """

    described: Described
    repeat: int
    method: str
    prompt: str
    init_image: Image | None
    strength: float
    guidance_scale: float
    seed: int
    label: int


@dataclass(frozen=True, slots=True)
class Generated:
    """A request and the image that came of it; `dtype` is the number format it was drawn in."""

    request: Request
    image: Image
    dtype: str
