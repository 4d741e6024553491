"""CLIP embeddings of images: of a set, and of all images of a store, kept beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sgid.data.decode import decode
from sgid.data.images import ImageSet
from sgid.semantics.similarity import OpenClipScorer
from sgid.store import Store, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray


def embed(images: ImageSet, scorer: OpenClipScorer, *, at_once: int = 128) -> NDArray[np.float32]:
    """(N, D) embeddings of a set, decoding `at_once` images at a time."""
    starts = range(0, len(images), at_once)
    groups = (range(start, min(start + at_once, len(images))) for start in starts)
    return np.concatenate([scorer.embed_images([images[i].image for i in g]) for g in groups])


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
        with replacing(path) as partial:
            whole, start = None, 0
            for rows in store.batches(["image"]):
                part = model.embed_images([decode(row["image"]["bytes"]) for row in rows])
                if whole is None:
                    shape = (store.rows, part.shape[1])
                    whole = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
                whole[start : start + len(part)] = part
                start += len(part)
                if on_images:
                    on_images(len(rows))
            assert whole is not None  # a store has rows
            whole.flush()
    return np.load(path, mmap_mode="r")
