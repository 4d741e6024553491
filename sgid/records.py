"""The vocabulary that the stages share: small frozen records, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
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
class Blend:
    """A second prompt, whose predicted noise takes the place of the first one's outside a mask.

    `mask` (h, w) is 1 where the request's own prompt is followed; to the size of the latents it is
    averaged by area, which leaves its mean.
    """

    prompt: str
    mask: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Later:
    """The prompt that is followed once `share` of the noise schedule is done."""

    share: float
    prompt: str


@dataclass(frozen=True, slots=True)
class Adapter:
    """The LoRA in `file`, added to the weights of the generator `scale` times."""

    file: Path
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """The training image `key` as a prompt: an IP-Adapter's attention to it counts `scale` times.

    With a scale of 0 the image is drawn as without.
    """

    key: str
    image: Image
    scale: float


@dataclass(frozen=True, slots=True)
class EdgeMap:
    """The edges of the training image `key`, which a ControlNet follows `scale` times.

    `image`, of mode L and the size that is drawn, is 255 on an edge.
    """

    key: str
    image: Image
    scale: float


@dataclass(frozen=True, slots=True)
class Request:
    """One image to generate.

    `init_image` is what img2img starts from, `None` for text-to-image. `strength` in (0, 1] is the
    share of the noise schedule that is re-drawn (the paper's noise rate). `label` is the class that
    the image is drawn as, and `label_weights`, which sum to 1, what training takes it as: mostly
    all of that class. Guidance leads away from `negative_prompt`. Text-to-image begins with
    `start`, latents (C, h, w) of mean 0 and variance 1, in the place of noise where it is given.
    `tokens` is the file of the
    learned tokens that prompts name, and `adapters` are the LoRAs that the image is drawn with.
    With `image_guidance_scale`, an InstructPix2Pix edits `init_image` from noise alone, with the
    prompt as its instruction.
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
    class_name: str
    negative_prompt: str = ""
    label_weights: Mapping[int, float] = field(default_factory=dict)
    tokens: Path | None = None
    adapters: tuple[Adapter, ...] = ()
    later: Later | None = None
    image_prompt: ImagePrompt | None = None
    edges: EdgeMap | None = None
    image_guidance_scale: float | None = None
    blend: Blend | None = field(default=None, compare=False)
    start: NDArray[np.float32] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Generated:
    """A request and its image; `dtype` is the number format in which it was drawn.

    Of `attempts` images that were drawn for the request this one was selected. Training leaves it
    out unless it is `accepted`, and may prefer images of a high `score`.
    """

    request: Request
    image: Image
    dtype: str
    attempts: int = 1
    accepted: bool = True
    score: float = 1.0


@dataclass(frozen=True)
class Use:
    """The way in which training takes the images of a method.

    Args:
        how: `concatenate`, or `replace`: swap an original for a generated image.
        probability: with replace, the chance that an original is swapped.
        whose: with replace, `own`: one of the images generated from it; `any`: one of all.
        weight: the weight of a generated image's loss; an original's is 1. The loss is the mean
            over the images of a batch of weight times loss, over the mean weight of the whole set:
            shares hold over the training, whatever a batch happens to hold.
        together: in the place of `weight`, that of all images of the method together, where that
            of all originals is 1.
        scored: with replace, whether the chance of an image is in proportion to its score.
        curriculum: the share of the training in which the strength of the images that replace
            falls, from the highest to the lowest of each original; none replace after it. 0: they
            replace at any time, whatever their strength.
    """

    how: str = "concatenate"
    probability: float = 0.5
    whose: str = "own"
    weight: float = 1.0
    together: float | None = None
    scored: bool = False
    curriculum: float = 0.0

    def __post_init__(self) -> None:
        if self.how not in ("concatenate", "replace"):
            raise ValueError(f"how={self.how}: unknown; one of concatenate, replace")
        if self.whose not in ("own", "any"):
            raise ValueError(f"whose={self.whose}: unknown; one of own, any")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability}: must be within 0 and 1")
        for name in ("weight", "together"):
            if (given := getattr(self, name)) is None:
                continue
            if not isinstance(given, int | float) or not given > 0:
                raise ValueError(f"{name}={given}: must be a number above 0")
        if self.together is not None and (self.weight != 1 or self.how != "concatenate"):
            raise ValueError("together: with how=concatenate, and in the place of weight")
        if not 0 <= self.curriculum <= 1:
            raise ValueError(f"curriculum={self.curriculum}: must be within 0 and 1")
        if (self.scored or self.curriculum) and self.how != "replace":
            raise ValueError("scored and curriculum: with how=replace alone")
        if self.curriculum and (self.scored or self.whose != "own"):
            raise ValueError("curriculum: with whose=own, and without scored")

    @property
    def spec(self) -> dict[str, Any]:
        """All of it but what was added later and is off."""
        off = {"scored": False, "curriculum": 0.0, "together": None}
        spec = {key: value for key, value in asdict(self).items() if off.get(key, ...) != value}
        # Before, weights were relative to those of each batch.
        return spec | ({"over": "set"} if self.weight != 1 else {})
