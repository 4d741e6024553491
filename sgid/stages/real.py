"""The real images that generated ones are measured against: embedded once, then read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.evaluation.embeddings import kept, kept_embeddings, kept_thumbnails
from sgid.evaluation.measures import Part, Real
from sgid.evaluation.stores import class_embeddings
from sgid.models import Models
from sgid.progress import progress
from sgid.reproducibility import fingerprint

FOLDER = "embeddings"
"""Below `paths.artifacts`: what is computed of real images and class names, for all runs."""


def real_images(dataset: Dataset, models: Models, artifacts: Path) -> Real:
    """All three parts; no test image is embedded, since that would serve nothing."""
    return Real(
        train=part(dataset.train, models, artifacts),
        validation=part(dataset.validation, models, artifacts),
        test=kept_thumbnails(dataset.test, folder=artifacts / FOLDER),
    )


def part(images: ImageSet, models: Models, artifacts: Path) -> Part:
    """Embeddings and thumbnails of any set of images, kept by what these are."""
    with progress("embed", len(images), "images") as bar:
        vectors = kept_embeddings(
            images,
            lambda: models.scorer,
            folder=artifacts / FOLDER,
            name=fingerprint(models.identity("scorer")),
            on_images=bar.update,
        )
    return Part(vectors, kept_thumbnails(images, folder=artifacts / FOLDER))


def class_vectors(dataset: Dataset, models: Models, artifacts: Path) -> NDArray[np.float32]:
    """(C, D) embeddings of the class names."""
    name = fingerprint([models.identity("scorer"), dataset.phrases])
    path = artifacts / FOLDER / f"classes-{name}.npy"
    return kept(path, lambda: class_embeddings(dataset.phrases, models.scorer))
