"""Step 2 of SGID: requests made from described samples.

In the words of the paper: the prompt is made of label and caption, the image is re-drawn at a noise
rate, and the guidance scale follows the caption's similarity to the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final, overload

from numpy.typing import NDArray
from PIL import Image, ImageOps

from sgid.data.image_set import ImageSet
from sgid.methods.method import Draw, Method
from sgid.methods.prompts import TOKEN, render
from sgid.models.lora import TOKENS, token_name
from sgid.records import Adapter, Described, Request
from sgid.runtime.threads import parallel_map


@final
@dataclass(frozen=True)
class Undescribed(Sequence[Described]):
    """Records of `images` for methods that use no caption; the similarity is NaN."""

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
    """All requests of a method over a training set, made when they are asked for.

    Request `i` is repeat `i % expansion` of sample `i // expansion`. `described` are the records of
    the samples, perhaps read from a file; `similarities` are those of all of them, NaN where there
    is no caption. `words` are what prompts say of each class, by the field of their template, and
    `artifact` is the folder that the method prepared.
    """

    images: ImageSet
    described: Sequence[Described]
    similarities: NDArray
    method: Method
    words: Mapping[str, Sequence[str]]
    expansion: int
    seed: int
    resolution: int
    multiple: int
    artifact: Path | None = None
    scales: NDArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", self.method.guidance(self.similarities))

    def __len__(self) -> int:
        return len(self.images) * self.expansion

    @property
    def phrases(self) -> Sequence[str]:
        """The class names as prompts say them."""
        return self.words["label"]

    def requests(self, rows: Sequence[int]) -> list[Request]:
        """The requests of `rows`; repeats of a sample share one image object."""
        samples = list(dict.fromkeys(row // self.expansion for row in rows))
        inits = dict(zip(samples, parallel_map(self._init_image, samples), strict=True))
        return [self._request(*divmod(row, self.expansion), inits) for row in rows]

    def _init_image(self, sample: int) -> Image.Image | None:
        if not self.method.from_image:
            return None
        return fit(self.images[sample].image, resolution=self.resolution, multiple=self.multiple)

    def _request(self, sample: int, repeat: int, inits: dict[int, Image.Image | None]) -> Request:
        described, method = self.described[sample], self.method
        draw = Draw(self.seed, described.key, repeat)
        label, weights = self._target(described.label, draw)
        texts = self.texts(label, described.caption)
        return Request(
            described=described,
            repeat=repeat,
            method=method.name,
            prompt=render(method.prompt, **texts),
            negative_prompt=render(method.negative_prompt, **texts),
            init_image=inits[sample],
            strength=draw.choice("strength", method.strengths),
            guidance_scale=float(self.scales[sample]),
            seed=draw.noise,
            label=label,
            class_name=self.images.class_names[label],
            label_weights=weights,
            tokens=self.tokens,
            adapters=self._adapters(described.key, label),
        )

    def texts(self, label: int, caption: str) -> dict[str, str]:
        """What the fields of prompt templates are filled with."""
        texts = {**{field: by[label] for field, by in self.words.items()}, "caption": caption}
        return {**texts, TOKEN: token_name(label)} if self.method.learns_tokens else texts

    @property
    def tokens(self) -> Path | None:
        """The file of the learned tokens that prompts name."""
        if not self.method.learns_tokens:
            return None
        assert self.artifact is not None, f"aug={self.method.name} has {{token}}, and no `prepare`"
        return self.artifact / TOKENS

    def _adapters(self, key: str, label: int) -> tuple[Adapter, ...]:
        of = self.method.adapters
        return () if of is None else tuple(of(self.artifact, key, label))

    def _target(self, label: int, draw: Draw) -> tuple[int, dict[int, float]]:
        """The class that prompts name, and the weights of all; see `sgid.methods.method.Target`."""
        if self.method.target is None:
            return label, {label: 1.0}
        target, drawn = self.method.target(label, len(self.images.class_names), draw), None
        if isinstance(target, tuple):
            drawn, target = target
        weights = {target: 1.0} if isinstance(target, int) else dict(target)
        if abs(sum(weights.values()) - 1) > 1e-6 or min(weights.values()) < 0:
            raise ValueError(f"aug={self.method.name}: label weights {weights} do not sum to 1")
        return max(weights, key=weights.__getitem__) if drawn is None else drawn, weights


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
