"""Linear classifier on CLIP features of the training images, for methods that ask a classifier.

The papers train a network of their own on the real images first. Here it is a logistic regression
on the scorer's image features, whose probabilities are calibrated on held-out folds of the training
images (temperature scaling: Guo et al., 2017), so that a method needs no other run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from sgid.reproducibility import derive_seed
from sgid.runtime.files import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

    from sgid.data.image_set import ImageSet

FILE = "probe.npz"
FOLDS = 5


@final
@dataclass(frozen=True)
class Probe:
    """A linear classifier of unit features (N, D), and what goes with it.

    `weight` (C, D) and `bias` (C,) give logits, and `temperature` what they are divided by. Of each
    class, `prototypes` (C, D) are the mean unit features of its training images, `texts` (C, D) the
    features of its name, and `thresholds` (C,) the mean probability that held-out images of it are
    given of it: infinite for a class of one image, which a classifier without it has never seen.
    `scale` is CLIP's own factor of cosines.
    """

    weight: NDArray
    bias: NDArray
    temperature: NDArray
    prototypes: NDArray
    texts: NDArray
    thresholds: NDArray
    scale: NDArray

    def probabilities(self, features: NDArray) -> NDArray:
        """(N, C), calibrated."""
        return softmax((features @ self.weight.T + self.bias) / self.temperature)

    def zero_shot(self, features: NDArray) -> NDArray:
        """(N, C): CLIP's own probabilities, by the class names."""
        return softmax(self.scale * features @ self.texts.T)

    def save(self, folder: Path) -> None:
        with atomic_path(folder / FILE) as partial, partial.open("wb") as stream:
            np.savez(stream, **vars(self))


def load_probe(folder: Path | None) -> Probe:
    """The classifier that `linear_probe` left in `folder`."""
    assert folder is not None, "a method that asks the probe has prepare: linear_probe"
    with np.load(folder / FILE) as arrays:
        return Probe(**arrays)


def linear_probe(
    images: ImageSet, phrases: Sequence[str], models: Any, folder: Path, *, seed: int
) -> None:
    """Fit a `Probe` to the training images."""
    labels = np.asarray(images.labels)
    features = embed_all(images, models.scorer)
    names = models.scorer.embed_texts([f"a photo of a {phrase}" for phrase in phrases])
    classes = len(phrases)
    weight, bias = fit(features, labels, classes)
    held_out = _held_out_logits(features, labels, images.keys, classes, seed)
    temperature = calibrate(held_out, labels)
    probabilities = softmax(held_out / temperature)
    own = probabilities[np.arange(len(labels)), labels]
    prototypes = np.zeros((classes, features.shape[1]))
    thresholds = np.full(classes, np.inf)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        prototypes[label] = unit(features[labels == label].mean(0))
        if count > 1:
            thresholds[label] = own[labels == label].mean()
    Probe(
        weight,
        bias,
        np.asarray(temperature),
        prototypes,
        np.asarray(names, np.float64),
        thresholds,
        np.asarray(models.scorer.logit_scale),
    ).save(folder)


PIECE = 256


def embed_all(images: ImageSet, scorer: Any) -> NDArray[np.float64]:
    """(N, D) unit features of the images, a piece at a time."""
    pieces = []
    for start in range(0, len(images), PIECE):
        some: list[Image] = [images[i].image for i in range(len(images))[start : start + PIECE]]
        pieces.append(scorer.embed_images(some))
    return np.concatenate(pieces).astype(np.float64)


def fit(
    features: NDArray, labels: NDArray, classes: int, *, decay: float = 1e-3
) -> tuple[NDArray, NDArray]:
    """Weight (C, D) and bias (C,) of the least mean cross-entropy plus `decay` / 2 |weight|²."""
    from scipy.optimize import minimize

    count, width = features.shape
    targets = np.eye(classes)[labels]

    def loss(flat: NDArray) -> tuple[float, NDArray]:
        matrix = flat.reshape(classes, width + 1)
        probabilities = softmax(features @ matrix[:, :-1].T + matrix[:, -1])
        off = (probabilities - targets) / count  # (N, C)
        own = probabilities[np.arange(count), labels]
        gradient = np.concatenate([off.T @ features, off.sum(0)[:, None]], 1)
        gradient[:, :-1] += decay * matrix[:, :-1]
        value = -np.log(np.maximum(own, 1e-300)).mean() + decay / 2 * (matrix[:, :-1] ** 2).sum()
        return float(value), gradient.ravel()

    start = np.zeros(classes * (width + 1))
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    matrix = best.x.reshape(classes, width + 1)
    return matrix[:, :-1], matrix[:, -1]


def calibrate(logits: NDArray, labels: NDArray) -> float:
    """The temperature that makes the mean cross-entropy of `logits` (N, C) least."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / np.exp(log_temperature))
        return float(
            -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
        )

    found: Any = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    return float(np.exp(found.x))


def _held_out_logits(
    features: NDArray, labels: NDArray, keys: Sequence[str], classes: int, seed: int
) -> NDArray:
    """(N, C): logits of each image by a classifier of the other folds.

    The images of a class are dealt to the folds in the order of a hash of their keys.
    """
    folds = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        rows = sorted(members, key=lambda i: derive_seed(seed, keys[i]))
        folds[rows] = (np.arange(len(rows)) + label) % FOLDS
    logits = np.zeros((len(labels), classes))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            raise ValueError("a classifier of the training images needs two of them at least")
        weight, bias = fit(features[~out], labels[~out], classes)
        logits[out] = features[out] @ weight.T + bias
    return logits


def softmax(logits: NDArray) -> NDArray:
    """Probabilities (N, C) of logits (N, C)."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def unit(vectors: NDArray) -> NDArray:
    """(..., D) of length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
