"""CLIP embeddings and thumbnails of images, kept: of a set, and of a store beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgid.data.decode import decode
from sgid.data.images import ImageSet
from sgid.evaluation.leakage import thumbnails
from sgid.overlap import ahead, together
from sgid.semantics.similarity import OpenClipScorer
from sgid.store import Store, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


def embed(
    images: ImageSet,
    scorer: OpenClipScorer,
    *,
    at_once: int = 128,
    on_images: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """(N, D) embeddings of a set, decoding `at_once` images at a time."""
    starts = range(0, len(images), at_once)
    groups = (range(start, min(start + at_once, len(images))) for start in starts)
    pictures = (list(together(lambda i: images[i].image, group)) for group in groups)
    with closing(ahead(pictures)) as decoded:
        parts = []
        for some in decoded:
            parts.append(scorer.embed_images(some))
            if on_images:
                on_images(len(some))
        return np.concatenate(parts)


def kept_embeddings(
    images: ImageSet,
    scorer: Callable[[], OpenClipScorer],
    *,
    folder: Path,
    name: str,
    on_images: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """(N, D) embeddings of a set, mapped from `folder`/<its digest>/embeddings-<name>.npy.

    They are computed once; `scorer` is not called for when they are there.
    """
    path = folder / images.digest() / f"embeddings-{name}.npy"
    return kept(path, lambda: embed(images, scorer(), on_images=on_images))


def kept_thumbnails(images: ImageSet, *, folder: Path) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) thumbnails of a set, mapped from `folder`/<its digest>/thumbnails.npy."""
    path = folder / images.digest() / "thumbnails.npy"
    every = range(len(images))
    return kept(path, lambda: thumbnails(together(lambda i: images[i].image, every)))


def kept(path: Path, make: Callable[[], NDArray]) -> NDArray:
    """The array in `path`, mapped from it; `make` is called once, if it is not there."""
    if not path.is_file():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as stream:
            np.save(stream, made)
    return np.load(path, mmap_mode="r")


def stored_embeddings(
    store: Store,
    scorer: Callable[[], OpenClipScorer],
    *,
    name: str,
    on_images: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """(rows, D) embeddings of a complete store's images, mapped from `embeddings-<name>.npy`.

    They are computed once; `scorer` is not called for when they are there.
    """
    path = store.folder / f"embeddings-{name}.npy"
    if not path.is_file():
        model = scorer()
        pictures = (list(together(_decoded, rows)) for rows in store.batches(["image"]))
        with replacing(path) as partial, closing(ahead(pictures)) as decoded:
            whole, start = None, 0
            for some in decoded:
                part = model.embed_images(some)
                if whole is None:
                    shape = (store.rows, part.shape[1])
                    whole = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
                whole[start : start + len(part)] = part
                start += len(part)
                if on_images:
                    on_images(len(part))
            assert whole is not None  # a store has rows
            whole.flush()
    return np.load(path, mmap_mode="r")


def _decoded(row: dict[str, Any]) -> Image:
    return decode(row["image"]["bytes"])
