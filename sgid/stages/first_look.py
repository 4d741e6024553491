"""Looks at the classes, the captions and the first generated images, before hours of more.

Whether models know these images cannot be read off their files. The scorer's view of the real
images shows it before anything is drawn, and the first images before the others are.
"""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgid.evaluation.features import FOLDER, cached_embeddings, class_features
from sgid.evaluation.statistics import wilson
from sgid.evaluation.store_summary import spread
from sgid.reproducibility import fingerprint

if TYPE_CHECKING:
    from PIL.Image import Image

    from sgid.data.dataset import Dataset
    from sgid.data.image_set import ImageSet
    from sgid.models.loader import Models

log = logging.getLogger(__name__)

SAMPLE = 128
"""Real images of each part that are looked at, at most."""

CLASSIFIED = 1000
"""Real training images that the scorer names, at most, evenly of all classes."""

FEWEST = 20
"""Images below which nothing is said."""

FEWEST_OF_CLASS = 5
"""Images of a class below which nothing is said of it."""

COMPARED = 1000
"""Classes up to which every two names are compared letter by letter."""

SLIP = 0.93
"""Likeness of two names (`difflib`) from which one may be the other, misspelt."""

ALIKE = 0.5
"""Share of the images with one and the same caption from which captions say nothing."""

ABOVE_CHANCE = 0.1
"""Share of the way from chance to 100% that zero-shot accuracy has to be above chance."""

FARTHER = 1.4
"""Times the median distance of held-out real images at which generated ones are far away.

Other real images of a set reach 1.2, images of models that know it 1.3: see `experiments/LOG.md`.
"""


def look_first(images: Sequence[Image], dataset: Dataset, models: Models, *, strict: bool) -> None:
    """Warn if generated `images` are of what the generator does not know, and say what to do.

    Raises:
        ValueError: with `strict`, instead of the warning.
    """
    real = models.scorer.embed_images(_some(dataset.train))  # (N, D) unit vectors
    held = models.scorer.embed_images(_some(dataset.validation))
    drawn = models.scorer.embed_images(images)
    _say(_far_away(drawn, held, real), strict=strict)


def look_at_captions(captions: Sequence[str], *, strict: bool) -> None:
    """Warn if the captions of the training images are mostly one and the same.

    Raises:
        ValueError: with `strict`, instead of the warning.
    """
    _say(_same_captions(captions), strict=strict)


def look_at_classes(dataset: Dataset, models: Models, artifacts: Path, *, strict: bool) -> None:
    """Warn of class names that are nearly the same, and of classes whose real training images CLIP
    takes for others, with figures and what to do. Embeddings are cached in `artifacts`.

    Raises:
        ValueError: with `strict`, instead of the warnings.
    """
    some = dataset.train.select(spread(dataset.train, CLASSIFIED))
    real = cached_embeddings(
        some,
        lambda: models.scorer,
        folder=artifacts / FOLDER,
        name=fingerprint(models.identity("scorer")),
    )
    texts = class_features(dataset, models, artifacts)
    labels = np.asarray(some.labels, np.int64)
    remarks = [
        *_alike_names(dataset.class_names),
        *(_unknown_classes(real, texts, labels) or _misnamed(real, texts, labels, dataset.phrases)),
    ]
    _say(remarks, strict=strict)


def _say(remarks: Sequence[str], *, strict: bool) -> None:
    if remarks and strict:
        raise ValueError("\n".join([*remarks, "dataset.strict=true stops here"]))
    for remark in remarks:
        log.warning(remark)


def _alike_names(names: Sequence[str]) -> list[str]:
    """Whether names are the same but for plurals, order, signs, or a slip of the pen."""
    plain = [_plain(name) for name in names]
    first: dict[str, int] = {}
    pairs = []
    for index, text in enumerate(plain):
        if (other := first.setdefault(text, index)) != index:
            pairs.append((other, index))
    if len(names) <= COMPARED:
        pairs += [pair for pair in combinations(range(len(names)), 2) if _slip(plain, *pair)]
    if not pairs:
        return []
    listed = ", ".join(f"{names[a]!r} and {names[b]!r}" for a, b in pairs[:5])
    more = f" and {len(pairs) - 5:,} more pairs" if len(pairs) > 5 else ""
    return [
        f"class names are nearly the same: {listed}{more}. If they are one class, give them the "
        "same words (dataset.classes=FILE), or merge their folders; if not, words that say the "
        "difference"
    ]


def _plain(name: str) -> str:
    """A name without signs, accents and plurals, its words in alphabetical order."""
    text = unicodedata.normalize("NFKD", name.casefold())
    text = "".join(one for one in text if not unicodedata.combining(one))
    words = re.findall(r"[^\W_]+", text)
    return " ".join(sorted(re.sub(r"(?<=\w\w)s$", "", word) for word in words))


def _slip(plain: Sequence[str], a: int, b: int) -> bool:
    """Whether two different names without numbers differ as misspelt ones do."""
    one, other = plain[a], plain[b]
    if one == other or min(len(one), len(other)) < 6 or re.search(r"\d", one + other):
        return False
    if one.replace(" ", "") == other.replace(" ", ""):
        return True
    if abs(len(one) - len(other)) > 1:
        return False
    match = difflib.SequenceMatcher(None, one, other)
    return match.quick_ratio() >= SLIP and match.ratio() >= SLIP


def _misnamed(
    real: NDArray[np.float32],
    texts: NDArray[np.float32],
    labels: NDArray[np.int64],
    phrases: Sequence[str],
) -> list[str]:
    """Classes of which CLIP takes more real images for another one than for their own.

    Only those count where chance does not explain it: the lower end of the 95% interval of the
    other's share is above the own share.
    """
    guesses = (real @ texts.T).argmax(1)
    found = []
    for label in np.unique(labels):
        own = guesses[labels == label]
        if len(own) < FEWEST_OF_CLASS:
            continue
        counts = np.bincount(own, minlength=len(texts))
        other = int(counts.argmax())
        share = 100 * counts[label] / len(own)
        if other != label and wilson(int(counts[other]), len(own)).low > share:
            found.append((share, -counts[other], len(own), int(label), other))
    if not found:
        return []
    found.sort()
    listed = ", ".join(
        f"{phrases[label]!r} for {phrases[other]!r} ({-count} of {total})"
        for _, count, total, label, other in found[:5]
    )
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    right = 100 * float((guesses == labels).mean())
    return [
        f"models.scorer takes most real images of {len(found):,} of {len(texts):,} classes for "
        f"others: {listed}{more}. Of {len(labels):,} training images it names {right:.0f}% right. "
        "Prompts may draw the other thing, and filters and label agreement misjudge it. Say more "
        "of these classes: a noun for all (dataset.noun), words, superclass and description of "
        "each (dataset.classes=FILE), own captions (dataset.captions); and let a classifier that "
        "was trained on the real images judge (evaluation.classifier)"
    ]


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
