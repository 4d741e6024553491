"""Step 2 of SGID: requests made from described samples.

In the words of the paper: the prompt is made of label and caption, the image is re-drawn at a noise
rate, and the guidance scale follows the caption's similarity to the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, final, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sgid.data.image_set import ImageSet, Texts
from sgid.methods import budget
from sgid.methods.conditioning import canny, whose
from sgid.methods.method import Draw, Method
from sgid.methods.prompts import TOKEN, render, templates
from sgid.methods.strength import Strength
from sgid.models.lora import TOKENS, token_name
from sgid.records import Adapter, Described, EdgeMap, ImagePrompt, Request
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


class Sources(NamedTuple):
    """The samples whose images a request takes: to start from, as a prompt, and for its edges."""

    start: int | None
    prompt: int | None
    edges: int | None


@dataclass(frozen=True)
class RequestPlan:
    """All requests of a method over a training set, made when they are asked for.

    Requests are sample by sample, and each sample's repeat by repeat: `expansion` of each, or as
    many as the method's budget says. `described` are the records of the samples, perhaps read from
    a file; `similarities` are those of all of them, NaN where there is no caption. `words` are what
    prompts say of each class, by the field of their template, and `artifact` is the folder that the
    method prepared.
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
    strengths: NDArray | None = field(init=False, default=None)
    image_scales: NDArray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        prompts = self.method.image_prompt
        object.__setattr__(self, "scales", self.method.guidance(self.similarities))
        object.__setattr__(self, "strengths", self._by_rule(self.method.strength))
        object.__setattr__(self, "image_scales", self._by_rule(prompts.scale if prompts else 1.0))

    def _by_rule(self, given: Strength) -> NDArray | None:
        """(N,): what a rule gives for each sample; `None` for what is none."""
        if not callable(given):
            return None
        return given(self.similarities, self.counts[np.asarray(self.images.labels)])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(C,): the training images of each class."""
        return class_counts(self.images)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """(N,): the first row after those of each sample."""
        return repeat_counts(self.method, self.images, self.expansion).cumsum()

    def rows(self, sample: int) -> range:
        """The rows of a sample."""
        return range(int(self.ends[sample - 1]) if sample else 0, int(self.ends[sample]))

    def place(self, row: int) -> tuple[int, int]:
        """The sample of a row, and which of its repeats it is."""
        sample = int(np.searchsorted(self.ends, row, side="right"))
        return sample, row - self.rows(sample).start

    @property
    def phrases(self) -> Sequence[str]:
        """The class names as prompts say them."""
        return self.words["label"]

    def requests(self, rows: Sequence[int]) -> list[Request]:
        """The requests of `rows`; repeats of a sample share one image object."""
        places = [self.place(row) for row in rows]
        sources = [self._sources(*place) for place in places]
        samples = list(dict.fromkeys(one for some in sources for one in some if one is not None))
        images = dict(zip(samples, parallel_map(self._fitted, samples), strict=True))
        pairs = list(dict.fromkeys((one.edges, one.start) for one in sources))
        edges = dict(zip(pairs, parallel_map(partial(self._edges, images), pairs), strict=True))
        return [
            self._request(*place, one, images, edges[one.edges, one.start])
            for place, one in zip(places, sources, strict=True)
        ]

    def _sources(self, sample: int, repeat: int) -> Sources:
        method, draw = self.method, Draw(self.seed, self.images.keys[sample], repeat)
        start = sample if method.from_image else None
        if method.image_prompt is None and method.edges is None:
            return Sources(start, None, None)
        label, _ = self._target(int(self.images.labels[sample]), draw)
        prompt, edges = (
            whose(part.of, sample, self.members[label], draw, purpose) if part else None
            for purpose, part in (("image prompt", method.image_prompt), ("edges", method.edges))
        )
        return Sources(start, prompt, edges)

    def _fitted(self, sample: int) -> Image.Image:
        return fit(self.images[sample].image, resolution=self.resolution, multiple=self.multiple)

    def _edges(
        self, images: Mapping[int, Image.Image], pair: tuple[int | None, int | None]
    ) -> Image.Image | None:
        """The edges of a sample, of the size of the one that the image starts from."""
        (of, start), method = pair, self.method.edges
        if of is None or method is None:
            return None
        size = images[of if start is None else start].size
        image = images[of]
        if image.size != size:
            image = ImageOps.fit(image, size, method=Image.Resampling.LANCZOS)
        return canny(image, method.low, method.high)

    def _request(
        self,
        sample: int,
        repeat: int,
        sources: Sources,
        images: Mapping[int, Image.Image],
        edges: Image.Image | None,
    ) -> Request:
        described, method = self.described[sample], self.method
        draw = Draw(self.seed, described.key, repeat)
        label, weights = self._target(described.label, draw)
        texts = self.texts(label, self.caption(sample, label, draw))
        request = Request(
            described=described,
            repeat=repeat,
            method=method.name,
            prompt=render(self.template(label, draw), **texts),
            negative_prompt=render(self.template(label, draw, negative=True), **texts),
            init_image=None if sources.start is None else images[sources.start],
            strength=self._number(method.strength, self.strengths, sample, draw, "strength"),
            guidance_scale=float(self.scales[sample]),
            seed=draw.noise,
            label=label,
            class_name=self.images.class_names[label],
            label_weights=weights,
            tokens=self.tokens,
            adapters=self._adapters(described.key, label),
            image_prompt=self._image_prompt(sample, sources.prompt, images, draw),
            edges=self._edge_map(sources.edges, edges),
            image_guidance_scale=method.image_guidance,
        )
        return request if method.changes is None else method.changes(request, self, draw)

    def template(self, label: int, draw: Draw, *, negative: bool = False) -> str:
        """The prompt's template for an image of a class; or the negative prompt's."""
        pool = self.method.negative_prompt if negative else self.method.prompt
        some = templates(pool, self.images.class_names[label])
        return draw.turn("negative prompt" if negative else "prompt", some)

    def caption(self, sample: int, label: int, draw: Draw) -> str:
        """The caption of a sample's image of a class: its own, or another image's."""
        how = self.method.caption
        if how not in ("same_class", "other_class") or "caption" not in self.method.fields:
            return self.described[sample].caption
        if how == "same_class":
            return self._captions[draw.turn("caption", self.members[label])]
        place = draw.choice("caption", range(len(self.images) - len(self.members[label])))
        # In the order of the classes, those of this one are skipped.
        before = int(self.counts[:label].sum())
        place += len(self.members[label]) if place >= before else 0
        return self._captions[int(self._class_order[place])]

    @cached_property
    def index(self) -> dict[str, int]:
        """The sample of each key."""
        return {key: sample for sample, key in enumerate(self.images.keys)}

    @cached_property
    def members(self) -> dict[int, list[int]]:
        """The samples of each class."""
        parts = np.split(self._class_order, self.counts.cumsum()[:-1])
        return {label: part.tolist() for label, part in enumerate(parts)}

    @cached_property
    def _class_order(self) -> NDArray[np.int64]:
        """(N,): the samples, class by class."""
        return np.argsort(np.asarray(self.images.labels), kind="stable")

    @cached_property
    def _captions(self) -> Sequence[str]:
        return Texts(one.caption for one in self.described)

    def likely_strengths(self) -> NDArray[np.float64]:
        """Strengths that images are drawn with, each as often as any other."""
        match self.method.strength:
            case {"min": low, "max": high}:
                return np.linspace(low, high, 99)
            case int() | float() | [*_] as given:
                return np.atleast_1d(np.asarray(given, np.float64))
        assert self.strengths is not None
        return self.strengths

    def _number(
        self, given: Strength, values: NDArray | None, sample: int, draw: Draw, purpose: str
    ) -> float:
        """A number, one of a list or a range, or what a rule gave for the sample."""
        match given:
            case int() | float() as number:
                return number
            case {"min": low, "max": high}:
                return low + (high - low) * draw.uniform(purpose)
            case [*several]:
                return draw.choice(purpose, several)
        assert values is not None
        return float(values[sample])

    def _image_prompt(
        self, sample: int, of: int | None, images: Mapping[int, Image.Image], draw: Draw
    ) -> ImagePrompt | None:
        prompts = self.method.image_prompt
        if prompts is None or of is None:
            return None
        scale = self._number(prompts.scale, self.image_scales, sample, draw, "image prompt scale")
        return ImagePrompt(self.images.keys[of], images[of], scale)

    def _edge_map(self, of: int | None, edges: Image.Image | None) -> EdgeMap | None:
        if self.method.edges is None or of is None or edges is None:
            return None
        return EdgeMap(self.images.keys[of], edges, self.method.edges.scale)

    def texts(self, label: int, caption: str) -> dict[str, str]:
        """Texts of the fields of prompt templates, for a class and a caption."""
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


def class_counts(images: ImageSet) -> NDArray[np.int64]:
    """(C,): the images of each class."""
    return np.bincount(np.asarray(images.labels, np.int64), minlength=len(images.class_names))


def repeat_counts(method: Method, images: ImageSet, expansion: int) -> NDArray[np.int64]:
    """(N,): the number of images that a method generates from each original."""
    if method.budget is None:
        return np.full(len(images), expansion)
    totals = method.budget(class_counts(images), expansion)
    return budget.repeats(totals, images.labels)


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
