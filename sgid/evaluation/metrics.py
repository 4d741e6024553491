"""Metrics of a set of generated images, by name.

A metric is `None` where it cannot be computed: without originals, labels or a model that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from sgid.evaluation.distribution import (
    density_coverage,
    frechet,
    kernel_distance,
    nearest,
    pairwise_distance,
    slices,
    vendi,
)
from sgid.evaluation.leakage import Limit, Nearest, limit, nearest_by_pixels
from sgid.evaluation.lpips import pairs_within, perceptual_distance
from sgid.reproducibility import derive_seed

VERSION = 2
"""Raised when a metric is added or changes, so that older summaries are not reused."""

SAMPLE = 20_000
"""Images of a set that are compared with all of another, at most: the time is their product."""

SHOWN = 6
"""Pairs of a generated image and the nearest test image that a report shows."""


@dataclass(frozen=True)
class Features:
    """Real images: their embeddings (M, D), and their thumbnails (M, 32, 32, 3)."""

    vectors: NDArray
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class RealFeatures:
    """The real images that generated ones are compared with.

    `train` are the originals; `validation`, which nothing was generated from, stands for what
    images of the set are like; of `test` there are thumbnails (T, 32, 32, 3), for leakage alone.
    """

    train: Features
    validation: Features
    test: NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSetFeatures:
    """N generated images for the metrics.

    `source_index` is the row in `RealFeatures.train` of the original of each; `labels` are the
    classes that they are said to be of; `None` where that is not known. `image` decodes one of
    them.
    """

    vectors: NDArray
    pixels: NDArray[np.uint8]
    image: Callable[[int], Image]
    labels: NDArray[np.int64] | None = None
    source_index: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Leakage:
    """Nearest test images of generated images.

    `rows` (S,) are those that were compared: all, or a sample. `nearest` is the nearest test image
    of each of them; `near` says which are near-copies, and `same` which are the very pixels of a
    test image.
    """

    limit: Limit
    rows: NDArray[np.int64]
    nearest: Nearest
    near: NDArray[np.bool_]
    same: NDArray[np.bool_]

    def worst(self, count: int = SHOWN) -> list[dict[str, Any]]:
        """The images nearest to a test image, none of which is shown twice."""
        chosen: dict[int, int] = {}
        for place in np.argsort(self.nearest.distances, kind="stable").tolist():
            if len(chosen) == count:
                break
            chosen.setdefault(int(self.nearest.rows[place]), place)
        return [
            {
                "row": int(self.rows[place]),
                "test": test,
                "distance": float(self.nearest.distances[place]),
                "near": bool(self.near[place]),
                "same": bool(self.same[place]),
            }
            for test, place in chosen.items()
        ]


def sample(count: int) -> NDArray[np.int64]:
    """Rows of a set of `count` images: all, or `SAMPLE` of them, which are the same each time."""
    if count <= SAMPLE:
        return np.arange(count)
    rng = np.random.default_rng(derive_seed(0, "sample"))
    return np.sort(rng.choice(count, SAMPLE, replace=False))


def held_out_limit(real: RealFeatures) -> Limit:
    """The distance of a near-copy of a test image, by the validation images."""
    pixels = real.validation.pixels
    return limit(nearest_by_pixels(pixels[sample(len(pixels))], real.test).distances)


def leakage(
    generated: ImageSetFeatures,
    real: RealFeatures,
    least: Limit,
    test_image: Callable[[int], Image],
) -> Leakage:
    """Compare images with the test images; `test_image` decodes one of these."""
    rows = sample(len(generated))
    nearest_test = nearest_by_pixels(generated.pixels[rows], real.test)
    same = np.zeros(len(rows), bool)
    for place in (nearest_test.distances == 0).nonzero()[0].tolist():  # the thumbnails are the same
        ours, theirs = generated.image(int(rows[place])), test_image(int(nearest_test.rows[place]))
        same[place] = ours.size == theirs.size and ours.tobytes() == theirs.tobytes()
    return Leakage(least, rows, nearest_test, nearest_test.distances <= least.distance, same)


def image_metrics(
    generated: ImageSetFeatures,
    real: RealFeatures,
    leaked: Leakage,
    *,
    zero_shot: NDArray[np.int64] | None = None,
    predicted: NDArray[np.int64] | None = None,
    lpips: Callable[[Any, Any], float] | None = None,
) -> dict[str, float | None]:
    """All measures; shares and agreements are in percent, `test_*` and `train_copies` are counts.

    What compares all with all is of `leaked.rows`, and of as many held-out images: neighbours,
    density, coverage, KID and the counts of copies.

    Args:
        zero_shot: (N,) the class whose name CLIP finds nearest to each image.
        predicted: (N,) the class that a classifier trained on real images gives each.
        lpips: of two images, from `perceptual.load_lpips`.
    """
    vectors, labels, source_index = generated.vectors, generated.labels, generated.source_index
    some, real_vectors = vectors[leaked.rows], real.validation.vectors
    few = real_vectors[sample(len(real_vectors))]
    density, coverage = density_coverage(few, some) or (None, None)
    perceptual = None
    if lpips is not None and source_index is not None:
        perceptual = perceptual_distance(pairs_within(source_index), generated.image, lpips)
    return {
        "cosine": None if source_index is None else float(to_original(generated, real).mean()),
        "label_agreement": _agreement(labels, zero_shot),
        "classifier_agreement": _agreement(labels, predicted),
        "own_original_nearest": _own_nearest(generated, real, leaked.rows),
        "diversity": None if source_index is None else pairwise_distance(vectors, source_index),
        "class_diversity": None if labels is None else pairwise_distance(vectors, labels),
        "lpips": perceptual,
        "vendi": vendi(vectors),
        "density": density,
        "coverage": coverage,
        "fid": frechet(real_vectors, vectors),
        "kid": kernel_distance(few, some),
        "train_copies": _train_copies(generated, real, leaked),
        "test_copies": float(leaked.near.sum()),
        "test_copies_expected": leaked.limit.share * len(leaked.rows),
        "test_duplicates": float(leaked.same.sum()),
    }


def to_original(generated: ImageSetFeatures, real: RealFeatures) -> NDArray[np.float32]:
    """(N,) cosine of each image and its original."""
    assert generated.source_index is not None
    cosines = np.zeros(len(generated), np.float32)
    for some in slices(len(generated)):
        originals = real.train.vectors[generated.source_index[some]]
        cosines[some] = np.einsum("nd,nd->n", generated.vectors[some], originals)
    return cosines


def _agreement(labels: NDArray | None, said: NDArray | None) -> float | None:
    if labels is None or said is None:
        return None
    return 100 * float((labels == said).mean())


def _own_nearest(
    generated: ImageSetFeatures, real: RealFeatures, rows: NDArray[np.int64]
) -> float | None:
    """Percentage of images that are more like their own original than like any other."""
    if generated.source_index is None:
        return None
    neighbours, _ = nearest(generated.vectors[rows], real.train.vectors)
    return 100 * float((neighbours[:, 0] == generated.source_index[rows]).mean())


def _train_copies(generated: ImageSetFeatures, real: RealFeatures, leaked: Leakage) -> float | None:
    """Count of images as near to an original as near-copies are to a test image."""
    if real.train.vectors is generated.vectors:
        return None  # they are the originals
    nearest_train = nearest_by_pixels(generated.pixels[leaked.rows], real.train.pixels)
    return float((nearest_train.distances <= leaked.limit.distance).sum())
