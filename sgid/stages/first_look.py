"""A look at the first generated images, their captions and the scorer, before hours of more.

Whether models know these images cannot be read off their files; their first images show it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgid.evaluation.statistics import wilson

if TYPE_CHECKING:
    from PIL.Image import Image

    from sgid.data.dataset import Dataset
    from sgid.data.image_set import ImageSet
    from sgid.models.loader import Models

log = logging.getLogger(__name__)

SAMPLE = 128
"""Real images of each part that are looked at, at most."""

FEWEST = 20
"""Images below which nothing is said."""

ALIKE = 0.5
"""Share of the images with one and the same caption from which captions say nothing."""

ABOVE_CHANCE = 0.1
"""Share of the way from chance to 100% that zero-shot accuracy has to be above chance."""

FARTHER = 1.4
"""Times the median distance of held-out real images at which generated ones are far away.

Other real images of a set reach 1.2, images of models that know it 1.3: see `experiments/LOG.md`.
"""


def look_first(
    images: Sequence[Image],
    captions: Sequence[str],
    dataset: Dataset,
    models: Models,
    *,
    strict: bool,
) -> None:
    """Warn of what the models do not know, with figures and what to do.

    `images` are generated, and `captions` those of their originals, none for methods without.

    Raises:
        ValueError: with `strict`, instead of the warning.
    """
    real = models.scorer.embed_images(_some(dataset.train))  # (N, D) unit vectors
    held = models.scorer.embed_images(_some(dataset.validation))
    texts = models.scorer.embed_texts([f"a photo of a {phrase}" for phrase in dataset.phrases])
    labels = np.array(dataset.train.labels)[_spread(len(dataset.train))]
    drawn = models.scorer.embed_images(images)
    remarks = [
        *_unknown_classes(real, texts, labels),
        *_same_captions(captions),
        *_far_away(drawn, held, real),
    ]
    if remarks and strict:
        raise ValueError("\n".join([*remarks, "dataset.strict=true stops here"]))
    for remark in remarks:
        log.warning(remark)


def _unknown_classes(
    real: NDArray[np.float32], texts: NDArray[np.float32], labels: NDArray[np.int64]
) -> list[str]:
    """Whether the scorer cannot tell the real images' classes apart by their names."""
    chance = 100 / len(texts)
    if len(real) < FEWEST or len(texts) < 2:
        return []
    right = int(((real @ texts.T).argmax(1) == labels).sum())
    accuracy = wilson(right, len(real))
    if accuracy.low > chance + ABOVE_CHANCE * (100 - chance):
        return []
    return [
        f"models.scorer gives {accuracy.value:.0f}% of {len(real)} real images their own class, "
        f"where chance is {chance:.0f}%: it does not know these classes by these names. Guidance "
        "that follows similarities, filters, and label agreement in the report mean little here. "
        "Take names that it knows (dataset.classes=FILE), another models.scorer.weights, or a "
        "method that follows no similarity (aug=img2img_label, aug=fixed_guidance)"
    ]


def _same_captions(captions: Sequence[str]) -> list[str]:
    """Whether most captions are one and the same."""
    if len(captions) < FEWEST:
        return []
    ((most, count),) = Counter(captions).most_common(1)
    if count < ALIKE * len(captions):
        return []
    return [
        f"{count} of {len(captions)} images have the same caption, {most!r}: models.captioner does "
        "not see what tells them apart. Take another models.captioner.weights, or a method without "
        "captions (aug=img2img_label, aug=text2img_label)"
    ]


def _far_away(
    drawn: NDArray[np.float32], held: NDArray[np.float32], real: NDArray[np.float32]
) -> list[str]:
    """Whether generated images lie much farther from real ones than held-out real ones do."""
    if min(len(drawn), len(held), len(real)) < FEWEST:
        return []
    far, near = (float(np.median(1 - (some @ real.T).max(1))) for some in (drawn, held))
    if far < FARTHER * near:
        return []
    return [
        f"The generated images lie {far / max(near, 1e-6):.1f} times as far from the nearest real "
        f"image as held-out real ones do (CLIP distance {far:.2f}, {near:.2f}): "
        "models.generator does not know such images, or its weights or scheduler do not fit it "
        "(the prediction_type in its scheduler_config.json). Look at them; take a lower "
        "noise_rate, another models.generator.weights, or models.generator.scheduler=own"
    ]


def _some(images: ImageSet) -> list[Image]:
    return [images[index].image for index in _spread(len(images))]


def _spread(count: int) -> list[int]:
    """Up to `SAMPLE` indices below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, SAMPLE)).astype(int).tolist() if count else []
