"""Filters of generated images by CLIP, as ALIA and others apply after generation, or by people.

A filter is a pure function of `ClipScores` and, where it has an argument of that name, of
`rejected`: (N,), whether people rejected each image (`stage=review`). It drops images from a
training, never from a store. All functions take unit vectors, so that a dot product is a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgid.evaluation.distribution import slices


def label(scores: ClipScores) -> NDArray[np.bool_]:
    """Keep an image whose label is CLIP's first guess among all classes."""
    return scores.nearest == scores.labels


def band(scores: ClipScores, *, min: float, max: float) -> NDArray[np.bool_]:
    """Keep an image whose cosine to its original is within `min` and `max`, both included."""
    return (scores.cosines >= min) & (scores.cosines <= max)


def reviewed(scores: ClipScores, rejected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep an image that nobody rejected."""
    return ~rejected


@dataclass(frozen=True)
class ClipScores:
    """CLIP's view of each of N generated images.

    `labels` are the classes that they are trained as, `nearest` the classes whose names they are
    most similar to, zero-shot, and `cosines` their similarities to their originals, in [-1, 1].
    """

    labels: NDArray[np.int64]
    nearest: NDArray[np.int64]
    cosines: NDArray[np.float32]


def clip_scores(
    generated: NDArray,
    source_index: NDArray,
    originals: NDArray,
    labels: NDArray,
    classes: NDArray,
) -> ClipScores:
    """Compare generated images with their originals and with the class names.

    Args:
        generated: (N, D) embeddings of the generated images.
        source_index: (N,) row in `originals` of the image that each was generated from.
        originals: (M, D) embeddings of the originals.
        labels: (N,) class of each generated image.
        classes: (C, D) text embeddings of the class names.
    """
    nearest, cosines = np.zeros(len(labels), np.int64), np.zeros(len(labels), generated.dtype)
    for some in slices(len(labels)):
        cosines[some] = np.einsum("nd,nd->n", generated[some], originals[source_index[some]])
        nearest[some] = (generated[some] @ classes.T).argmax(1)
    return ClipScores(labels, nearest, cosines)


def per_class(values: NDArray, labels: NDArray, class_names: Sequence[str]) -> dict[str, float]:
    """The mean of the values (N,) of each class that has any."""
    return {
        name: float(values[labels == label].mean())
        for label, name in enumerate(class_names)
        if (labels == label).any()
    }
