"""Step 1 of SGID: caption each training image, score the candidates, keep the one that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, final

import numpy as np

from sgid.records import Described, Sample
from sgid.reproducibility import derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

    from sgid.models.blip import Captioner
    from sgid.models.clip import OpenClipScorer

PLACES = 4
"""Decimals of a similarity: 1e-4 is far below what steers guidance or tells captions apart."""

CAPTIONS = ("best", "random", "same_class", "other_class")
"""Captions that a method takes: the most similar of an image's candidates, any of them, or the best
one of the images of the class that is drawn, in turn, or of an image of another class.
"""


def describe(
    samples: Sequence[Sample], captioner: Captioner, scorer: OpenClipScorer
) -> Iterator[Described]:
    """One `Described` per sample, in order; the first of equally similar captions is chosen.

    Similarities are rounded to `PLACES`: their last bits hang on the batch size and the device, and
    with them the caption chosen and its guidance would. In float64, as runs compute them, a
    cosine hardly ever lies on the edge between two roundings; in float32, where cosines differ by
    some 1e-7, about one in a thousand does, and may fall to either side.
    """
    images = [sample.image for sample in samples]
    candidates = list(captioner(images, [sample.key for sample in samples]))
    image_vectors = scorer.embed_images(images)  # (N, D)
    texts = sorted({text for captions in candidates for text in captions})
    text_vectors = dict(zip(texts, scorer.embed_texts(texts), strict=True))

    for sample, vector, captions in zip(samples, image_vectors, candidates, strict=True):
        scores = [round(float(vector @ text_vectors[text]), PLACES) for text in captions]
        best = int(np.argmax(scores))
        yield Described(
            key=sample.key,
            label=sample.label,
            class_name=sample.class_name,
            caption=captions[best],
            similarity=scores[best],
            candidates=captions,
            scores=tuple(scores),
        )


@final
@dataclass(frozen=True)
class OwnCaptions:
    """Captioner of images that come with captions: gives these, and those of `captioner`, if any.

    Args:
        captions: of each image that has any, by its key.
        captioner: writes further candidates; without it, every image has captions.
    """

    captions: Mapping[str, tuple[str, ...]]
    captioner: Captioner | None

    def __call__(self, images: Sequence[Image], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The distinct candidate captions of each image, its own first."""
        written = self.captioner(images, keys) if self.captioner else repeat(())
        for key, others in zip(keys, written):  # noqa: B905  the second may be endless
            yield tuple(dict.fromkeys([*self.captions.get(key, ()), *others]))


def choose(described: Described, how: str, seed: int) -> Described:
    """`described` as it is, or, for `random`, with one of its captions drawn at random.

    The similarity becomes that of the caption drawn. The draw hangs on `seed` and the key alone.
    """
    if how in CAPTIONS and how != "random":
        return described
    if how not in CAPTIONS:
        raise ValueError(f"caption={how}: unknown; one of {', '.join(CAPTIONS)}")
    drawn = derive_seed(seed, "random caption", described.key) % len(described.candidates)
    return replace(
        described, caption=described.candidates[drawn], similarity=described.scores[drawn]
    )
