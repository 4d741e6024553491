"""Methods: the parts that make one generative method differ from another.

A method says which captions it needs, what it prepares once from the training images, how it makes
the request of each image, what it changes while an image is drawn and after, and how training is to
take its images. Each part does nothing where it is not given, and what a method does not use stands
in no spec: a part that is added later leaves every older store valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sgid.methods.conditioning import Edges, ImagePrompts
from sgid.methods.guidance import Guidance, follows_similarity
from sgid.methods.prompts import TOKEN, Pool, fields
from sgid.methods.strength import Strength, needs_similarity
from sgid.records import Use
from sgid.reproducibility import SEEDS, derive_seed, fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sgid.data.image_set import ImageSet
    from sgid.generation.hooks import LatentHook
    from sgid.methods.requests import RequestPlan
    from sgid.records import Adapter, Generated, Request

T = TypeVar("T")


@dataclass(frozen=True)
class Draw:
    """Random choices for one generated image, from a hash of its seed, key and repeat.

    Each choice has a purpose of its own, so that another one changes none of them, nor does the
    order, the batch, or the number of workers.
    """

    seed: int
    key: str
    repeat: int

    @property
    def noise(self) -> int:
        """The seed of the image's noise."""
        return derive_seed(self.seed, self.key, self.repeat)

    def again(self, attempt: int) -> int:
        """The seed of the noise when the image is drawn again, after so many attempts."""
        return derive_seed(self.seed, "again", self.key, self.repeat, attempt)

    def uniform(self, purpose: str) -> float:
        """A number in [0, 1)."""
        return derive_seed(self.seed, purpose, self.key, self.repeat) / SEEDS

    def choice(self, purpose: str, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[derive_seed(self.seed, purpose, self.key, self.repeat) % len(options)]

    def turn(self, purpose: str, options: Sequence[T]) -> T:
        """One of `options`, which the repeats of an original take in turn, in its own order."""
        places = [derive_seed(self.seed, purpose, self.key, place) for place in range(len(options))]
        order = sorted(range(len(options)), key=places.__getitem__)
        return options[order[self.repeat % len(options)]]


Weights = Mapping[int, float]
"""Shares of classes in an image, by label; they sum to 1."""


class Target(Protocol):
    """The class that an image is drawn as: a label, or weights of labels that sum to 1.

    Of weights the heaviest class is drawn; with both, the label is drawn and the weights are
    trained on.
    """

    def __call__(self, label: int, classes: int, draw: Draw) -> int | Weights | tuple[int, Weights]:
        """Draw from the label of the original, of as many `classes`."""
        ...


class Preparation(Protocol):
    """An artifact that is computed once from the training images: tokens, a LoRA, prototypes.

    It is cached under the fingerprint of the images, the models and its own arguments. One that
    leaves `tokens.safetensors` (see `sgid.models.lora`) gives prompts their `{token}`. One with
    `check`, `check(images, phrases, models, *, option)` is asked before any work: it raises a
    `ValueError` for what cannot be, naming `option`, and returns a line on what is to come.
    """

    def __call__(
        self, images: ImageSet, phrases: Sequence[str], models: Any, folder: Path, *, seed: int
    ) -> None:
        """Leave the artifact in `folder`, which may hold the beginnings of a killed process.

        `phrases` are the class names as prompts say them, and `models` the run's
        `sgid.models.loader.Models`.
        """
        ...


class Selection(Protocol):
    """A choice among several images that are drawn for each request."""

    def __call__(
        self,
        requests: Sequence[Request],
        generate: Callable[[Sequence[Request]], Iterator[Generated]],
        plan: RequestPlan,
        models: Any,
    ) -> Iterator[Generated]:
        """One image for each request, whose own request says how it was drawn.

        `generate` draws any requests, and `models` are the run's `sgid.models.loader.Models`.
        """
        ...


class Changes(Protocol):
    """Anything in a request that no other part of a method can say."""

    def __call__(self, request: Request, plan: RequestPlan, draw: Draw) -> Request:
        """The request to draw, for the same original and repeat."""
        ...


class Adapters(Protocol):
    """The LoRAs that an image is drawn with."""

    def __call__(self, artifact: Path | None, key: str, label: int) -> Sequence[Adapter]:
        """Name those of the original `key`, drawn as `label`, in the `artifact` prepared."""
        ...


class PixelHook(Protocol):
    """A change to an image after it is decoded."""

    def __call__(self, image: Image, request: Request, artifact: Path | None) -> Image:
        """The image to keep; `artifact` is the folder that the method prepared."""
        ...


@dataclass(frozen=True)
class Method:
    """A generative method, composed of its parts.

    Args:
        name: its name, as in `aug=`.
        prompt: a template with the fields of `sgid.methods.prompts`, or a pool of such, of which
            the repeats of an original take one after the other; `{label}` is the target's.
        from_image: img2img from the sample's own image, else text-to-image.
        strength: the paper's noise rate, in (0, 1], or what `sgid.methods.strength` knows.
        guidance: from the similarities of all samples to their guidance scales.
        caption: one of `sgid.methods.describe.CAPTIONS`.
        negative_prompt: a template of what guidance leads away from, or a pool of such; empty for
            the empty prompt.
        target: the class that an image is drawn as; `None` for the class of its original.
        budget: from the numbers of training images by class, and `expansion`, to the numbers of
            images to generate; `None` for `expansion` of each original.
        fewest: the training images that a class must have at least.
        prepare: what is computed once from the training images.
        adapters: the LoRAs that images are drawn with.
        image_prompt: training images as prompts, for an IP-Adapter.
        edges: edges of training images, for a ControlNet.
        image_guidance: the scale of the guidance towards the original, with which an
            InstructPix2Pix edits it; the prompt is its instruction.
        changes: what else is to be changed in a request.
        select: a choice among several images that are drawn for each request.
        on_latents: a change to the latents while they are denoised.
        on_pixels: a change to the decoded image.
        use: how training takes the images; `None` for as `mix` says.
        spec: what of the above determines an image, as JSON can say it.
    """

    name: str
    prompt: Pool
    from_image: bool
    strength: Strength
    guidance: Guidance
    caption: str = "best"
    negative_prompt: Pool = ""
    target: Target | None = None
    budget: Callable[[NDArray, int], NDArray] | None = None
    fewest: int = 1
    prepare: Preparation | None = None
    changes: Changes | None = None
    select: Selection | None = None
    adapters: Adapters | None = None
    image_prompt: ImagePrompts | None = None
    edges: Edges | None = None
    image_guidance: float | None = None
    on_latents: LatentHook | None = None
    on_pixels: PixelHook | None = None
    use: Use | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_captions(self) -> bool:
        """Whether captions are in a prompt, or their similarity steers the guidance."""
        scale = self.image_prompt.scale if self.image_prompt else 1.0
        follows = follows_similarity(self.guidance) or needs_similarity(self.strength)
        follows |= needs_similarity(scale)
        return "caption" in self.fields or follows

    @property
    def fields(self) -> set[str]:
        """The fields of its prompts."""
        return fields(self.prompt) | fields(self.negative_prompt)

    @property
    def learns_tokens(self) -> bool:
        """Whether a learned token is in a prompt."""
        return TOKEN in self.fields


SECTIONS = {"use": Use, "image_prompt": ImagePrompts, "edges": Edges}
"""Parts of a method that have options of their own."""


def section(part: str, given: Mapping[str, Any], instantiate: Callable[[Any], Any]) -> Any:
    """One of `SECTIONS`, of its options in an entry of `conf/aug/`.

    Raises:
        TypeError, ValueError: for an option that there is not, or a value that cannot be.
    """
    made = {key: instantiate(one) if _is_call(one) else one for key, one in given.items()}
    return SECTIONS[part](**made)


def _is_call(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def make_method(
    name: str, entry: Mapping[str, Any], instantiate: Callable[[Any], Any], identity: Callable
) -> Method:
    """The method that an entry of `conf/aug/` describes.

    `instantiate` makes what a `_target_` names, and `identity` says what that is in a spec.
    """
    # An empty prompt is one; any other part that is empty is none.
    given = {k: value for k, value in entry.items() if k == "prompt" or value not in (None, "", {})}
    parts: dict[str, Any] = {
        key: instantiate(value) if _is_call(value) else value for key, value in given.items()
    }
    parts |= {key: section(key, parts[key], instantiate) for key in SECTIONS.keys() & parts.keys()}
    method = Method(name, **parts)
    # How training takes an image does not change it; captions change nothing where none is used.
    unread = {"use"} if method.needs_captions else {"use", "caption"}
    spec = {key: identity(value) for key, value in given.items() if key not in unread}
    for key in ("prompt", "negative_prompt"):
        if _is_call(given.get(key)):
            spec[key] = {"pool": fingerprint(parts[key])}  # the texts, wherever they lie
    if spec.get("caption") == "best":
        del spec["caption"]
    return Method(name, **{**parts, "spec": spec})
