"""CLIP embeddings and thumbnails of image sets and stores, computed once and cached on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgid.data.dataset import Dataset
from sgid.data.decode import decode
from sgid.data.image_set import ImageSet
from sgid.evaluation.leakage import SIDE, thumbnails
from sgid.evaluation.metrics import Features, RealFeatures
from sgid.evaluation.store_summary import class_embeddings
from sgid.models.clip import OpenClipScorer
from sgid.models.loader import Models
from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path
from sgid.runtime.terminal import progress
from sgid.runtime.threads import parallel_map, prefetch
from sgid.store.store import Store

if TYPE_CHECKING:
    from PIL.Image import Image


AT_ONCE = 128
"""Images that are decoded together, unless they are so large that these are many pixels:"""


PIXELS = 2**25
"""32 million, 100 MB of them; two such groups are held at a time."""


def embed(
    images: ImageSet,
    scorer: OpenClipScorer,
    *,
    at_once: int = AT_ONCE,
) -> NDArray[np.float32]:
    """(N, D) embeddings of a set, decoding `at_once` images at a time, or fewer large ones."""
    with (
        closing(prefetch(_groups(_pictures(images), at_once))) as decoded,
        progress("embed", len(images), "images") as bar,
    ):
        parts = []
        for some in decoded:
            parts.append(scorer.embed_images(some))
            bar.update(len(some))
        return np.concatenate(parts)


def cached_embeddings(
    images: ImageSet,
    scorer: Callable[[], OpenClipScorer],
    *,
    folder: Path,
    name: str,
) -> NDArray[np.float32]:
    """(N, D) embeddings of a set, mapped from `folder`/<its digest>/embeddings-<name>.npy.

    They are computed once; `scorer` is not called for when they are there.
    """
    path = folder / images.digest() / f"embeddings-{name}.npy"
    return cached_array(path, lambda: embed(images, scorer()))


def cached_thumbnails(images: ImageSet, *, folder: Path) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) thumbnails of a set, mapped from `folder`/<its digest>/thumbnails.npy."""
    path = folder / images.digest() / "thumbnails.npy"
    return _mapped_thumbnails(path, _pictures(images), len(images))


def stored_thumbnails(store: Store) -> NDArray[np.uint8]:
    """(rows, 32, 32, 3) thumbnails of a complete store's images, mapped from `thumbnails.npy`."""
    return _mapped_thumbnails(store.folder / "thumbnails.npy", _stored_pictures(store), store.rows)


def cached_array(path: Path, make: Callable[[], NDArray]) -> NDArray:
    """The array in `path`, mapped from it; `make` is called once, if it is not there."""
    if not path.is_file():
        array = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, partial.open("wb") as stream:
            np.save(stream, array)
    return np.load(path, mmap_mode="r")


def stored_embeddings(
    store: Store, scorer: Callable[[], OpenClipScorer], *, name: str
) -> NDArray[np.float32]:
    """(rows, D) embeddings of a complete store's images, mapped from `embeddings-<name>.npy`.

    They are computed once; `scorer` is not called for when they are there.
    """
    path = store.folder / f"embeddings-{name}.npy"
    if not path.is_file():
        model = scorer()
        groups = _groups(_stored_pictures(store), AT_ONCE)
        with (
            atomic_path(path) as partial,
            closing(prefetch(groups)) as decoded,
            progress("embed", store.rows, "images") as bar,
        ):
            whole, start = None, 0
            for some in decoded:
                image_features = model.embed_images(some)
                if whole is None:
                    shape = (store.rows, image_features.shape[1])
                    whole = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
                whole[start : start + len(image_features)] = image_features
                start += len(image_features)
                bar.update(len(image_features))
            assert whole is not None  # a store has rows
            whole.flush()
    return np.load(path, mmap_mode="r")


def _mapped_thumbnails(path: Path, pictures: Iterable[Image], count: int) -> NDArray[np.uint8]:
    """Thumbnails in a memory-mapped file, written one by one: a million of them are 3 GB."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            shape = (count, SIDE, SIDE, 3)
            whole = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            thumbnails(pictures, whole)
            whole.flush()
    return np.load(path, mmap_mode="r")


def _groups(pictures: Iterable[Image], at_once: int) -> Iterator[list[Image]]:
    """`at_once` images together, or fewer that have `PIXELS` already."""
    group: list[Image] = []
    pixels = 0
    for picture in pictures:
        group.append(picture)
        pixels += picture.width * picture.height
        if len(group) == at_once or pixels >= PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _pictures(images: ImageSet) -> Iterator[Image]:
    return parallel_map(lambda i: images[i].image, range(len(images)))


def _stored_pictures(store: Store) -> Iterator[Image]:
    return parallel_map(_decoded, chain.from_iterable(store.batches(["image"])))


def _decoded(row: dict[str, Any]) -> Image:
    return decode(row["image"]["bytes"])


FOLDER = "embeddings"
"""Folder in `paths.artifacts` of features of real images and class names, for all runs."""


def real_features(dataset: Dataset, models: Models, artifacts: Path) -> RealFeatures:
    """Features of all three splits; test images have thumbnails alone."""
    return RealFeatures(
        train=image_features(dataset.train, models, artifacts),
        validation=image_features(dataset.validation, models, artifacts),
        test=cached_thumbnails(dataset.test, folder=artifacts / FOLDER),
    )


def image_features(images: ImageSet, models: Models, artifacts: Path) -> Features:
    """Embeddings and thumbnails of any set of images, cached by its digest."""
    vectors = cached_embeddings(
        images,
        lambda: models.scorer,
        folder=artifacts / FOLDER,
        name=fingerprint(models.identity("scorer")),
    )
    return Features(vectors, cached_thumbnails(images, folder=artifacts / FOLDER))


def class_features(dataset: Dataset, models: Models, artifacts: Path) -> NDArray[np.float32]:
    """(C, D) embeddings of the class names."""
    name = fingerprint([models.identity("scorer"), dataset.phrases])
    path = artifacts / FOLDER / f"classes-{name}.npy"
    return cached_array(path, lambda: class_embeddings(dataset.phrases, models.scorer))
