"""Generative methods: requests made from described samples.

SGID, in the words of the paper's two steps: the prompt is made of label and caption, the image is
re-drawn at a noise rate, and the guidance scale follows the caption's similarity to the image.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final, overload

from hydra.utils import instantiate
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sgid.config.schema import Config, in_slot
from sgid.data.image_set import ImageSet
from sgid.methods.guidance import Guidance, follows_similarity
from sgid.records import Described, Request
from sgid.reproducibility import derive_seed
from sgid.runtime.threads import parallel_map


@dataclass(frozen=True)
class Method:
    """What makes one method differ from another.

    Args:
        method: its name, as in `aug=`.
        prompt: template with the fields of `sgid.methods.requests`.
        from_image: img2img from the sample's own image, else text-to-image.
        strength: the paper's noise rate, in (0, 1].
        guidance: from the similarities of all samples to their guidance scales.
        caption: one of `sgid.methods.describe.CAPTIONS`.
    """

    method: str
    prompt: str
    from_image: bool
    strength: float
    guidance: Guidance
    caption: str = "best"

    @property
    def needs_captions(self) -> bool:
        """Captions are in the prompt, or their similarity steers the guidance."""
        return "caption" in fields(self.prompt) or follows_similarity(self.guidance)


@final
@dataclass(frozen=True)
class Undescribed(Sequence[Described]):
    """What is known of `images` for methods that use no caption; the similarity is NaN."""

    images: ImageSet

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Described: ...
    @overload
    def __getitem__(self, index: slice) -> list[Described]: ...
    def __getitem__(self, index: int | slice) -> Described | list[Described]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        label = self.images.labels[index]
        name = self.images.class_names[label]
        return Described(self.images.keys[index], label, name, "", float("nan"), (), ())


@dataclass(frozen=True)
class RequestPlan:
    """All requests of a recipe over a training set, made when they are asked for.

    Request `i` is repeat `i % expansion` of sample `i // expansion`. `described` says what is known
    of each sample and may read it from a file; `similarities` are those of all of them, NaN where
    there is no caption. `phrases` are the class names as prompts say them.
    """

    images: ImageSet
    described: Sequence[Described]
    similarities: NDArray
    recipe: Method
    phrases: Sequence[str]
    expansion: int
    seed: int
    resolution: int
    multiple: int
    scales: NDArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", self.recipe.guidance(self.similarities))

    def __len__(self) -> int:
        return len(self.images) * self.expansion

    def requests(self, rows: Sequence[int]) -> list[Request]:
        """The requests of `rows`; repeats of a sample share one image object."""
        samples = list(dict.fromkeys(row // self.expansion for row in rows))
        inits = dict(zip(samples, parallel_map(self._init_image, samples), strict=True))
        return [self._request(*divmod(row, self.expansion), inits) for row in rows]

    def _init_image(self, sample: int) -> Image.Image | None:
        if not self.recipe.from_image:
            return None
        return fit(self.images[sample].image, resolution=self.resolution, multiple=self.multiple)

    def _request(self, sample: int, repeat: int, inits: dict[int, Image.Image | None]) -> Request:
        described = self.described[sample]
        return Request(
            described=described,
            repeat=repeat,
            method=self.recipe.method,
            prompt=render(
                self.recipe.prompt,
                label=self.phrases[described.label],
                caption=described.caption,
            ),
            init_image=inits[sample],
            strength=self.recipe.strength,
            guidance_scale=float(self.scales[sample]),
            seed=derive_seed(self.seed, described.key, repeat),
            label=described.label,
        )


def recipes(config: Config) -> list[Method]:
    """The generative methods, in the order given."""
    return [
        Method(name, **{**entry, "guidance": instantiate(entry["guidance"])})
        for name, entry in in_slot(config, "offline").items()
    ]


def target_size(
    width: int, height: int, *, resolution: int, multiple: int, max_aspect: float = 2.0
) -> tuple[int, int]:
    """(width, height) near `resolution`² pixels in area and near the image's own aspect ratio.

    Both sides are multiples of `multiple`, as the VAE and UNet need. Aspect ratios beyond
    `max_aspect` are clipped: the models have not seen longer images.
    """
    aspect = min(max(width / height, 1 / max_aspect), max_aspect)
    ideal = (resolution * aspect**0.5, resolution / aspect**0.5)
    fitted = [max(multiple, round(side / multiple) * multiple) for side in ideal]
    return fitted[0], fitted[1]


def fit(image: Image.Image, *, resolution: int, multiple: int) -> Image.Image:
    """Resize to `target_size`, cropping the centre by what the rounding of the sides asks for."""
    size = target_size(*image.size, resolution=resolution, multiple=multiple)
    if image.size == size:
        return image
    return ImageOps.fit(image, size, method=Image.Resampling.LANCZOS)


FIELDS = ("label", "caption")


def fields(template: str) -> set[str]:
    """The fields that a template uses; a subset of `FIELDS`.

    Raises:
        ValueError: for a field that does not exist, or braces that do not close.
    """
    try:
        parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"prompt template {template!r}: {error}") from None
    used = {str(name) for _, name, _, _ in parsed}
    if unknown := used - set(FIELDS):
        raise ValueError(
            f"prompt template {template!r}: unknown field {', '.join(sorted(unknown))}; "
            f"the fields are {', '.join(FIELDS)}"
        )
    if any(form or conversion for _, _, form, conversion in parsed):
        raise ValueError(f"prompt template {template!r}: a field is its name in braces, no more")
    return used


def render(template: str, *, label: str, caption: str) -> str:
    """`template` with its fields filled in; the texts themselves are never parsed again."""
    fields(template)
    return template.format(label=label, caption=caption)
