"""Summary of a generated store: consistency, histograms, and a few examples to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from sgid.data.decode import decode
from sgid.data.image_set import ImageSet
from sgid.evaluation.filters import ClipScores, clip_scores, per_class
from sgid.models.clip import OpenClipScorer
from sgid.reproducibility import derive_seed
from sgid.store.store import Store

CLASS_PROMPT = "a photo of a {}"


def score_store(
    store: Store, vectors: NDArray, images: ImageSet, originals: NDArray, classes: NDArray
) -> ClipScores:
    """CLIP scores of each image of a complete store.

    Args:
        vectors: (rows, D), the embeddings of the store's images.
        images: the originals, and
        originals: (M, D), their embeddings.
        classes: (C, D), what `class_embeddings` gives.
    """
    return clip_scores(vectors, source_index(store, images), originals, labels(store), classes)


def class_embeddings(phrases: Sequence[str], scorer: OpenClipScorer) -> NDArray[np.float32]:
    """(C, D) embeddings of the class names, as prompts say them."""
    return scorer.embed_texts([CLASS_PROMPT.format(phrase) for phrase in phrases])


def labels(store: Store) -> NDArray[np.int64]:
    """(rows,): the class of each row."""
    return store.read(["label"])["label"].to_numpy()


def summarise(store: Store, scores: ClipScores, class_names: Sequence[str]) -> dict[str, Any]:
    """Histograms and class means of a complete store, in JSON's terms."""
    table = store.read(["similarity", "guidance_scale"])
    steering = {name: table[name].to_numpy() for name in table.column_names}
    return {
        "method": store.spec["method"],
        "path": str(store.folder),
        "images": store.rows,
        "histograms": _histograms(**steering),
        "cosine_per_class": per_class(scores.cosines, scores.labels, class_names),
    }


def examples(
    store: Store, images: ImageSet, *, count: int, kept: NDArray[np.bool_] | None = None
) -> list[dict[str, Any]]:
    """`count` originals, spread over the classes, each with all its generated images as PNG.

    `kept` says of each row of the store whether a filter lets it be trained on.
    """
    chosen = {images.keys[i]: images[i] for i in spread(images, count)}
    rows_of: dict[str, list[dict[str, Any]]] = {key: [] for key in chosen}
    keys = (key for table in store.tables(["key"]) for key in table["key"].to_pylist())
    for number, row in store.rows_at([i for i, key in enumerate(keys) if key in rows_of]):
        row["kept"] = kept is None or bool(kept[number])
        rows_of[row["key"]].append(row)
    shared = ("caption", "similarity", "prompt", "guidance_scale", "strength")
    return [
        {
            "method": store.spec["method"],
            "key": key,
            "class_name": chosen[key].class_name,
            **{name: rows[0][name] for name in shared},
            "original": png(chosen[key].image),
            "images": [png(decode(row["image"]["bytes"])) for row in rows],
            "kept": [row["kept"] for row in rows],
        }
        for key, rows in rows_of.items()
    ]


def spread(images: ImageSet, count: int) -> list[int]:
    """Indices of `count` images, class after class in turn, the same for every method."""
    by_class: dict[int, list[int]] = {}
    for i in sorted(range(len(images)), key=lambda i: derive_seed(0, "example", images.keys[i])):
        by_class.setdefault(images.labels[i], []).append(i)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [i for turn in turns for i in turn if i is not None][:count]


def source_index(store: Store, images: ImageSet) -> NDArray[np.int64]:
    """(rows,): the index in `images`, the originals, of that of each row."""
    row_of = {key: i for i, key in enumerate(images.keys)}
    keys = (key for table in store.tables(["key"]) for key in table["key"].to_pylist())
    return np.fromiter((row_of[key] for key in keys), np.int64, store.rows)


def _histograms(bins: int = 24, **counted: NDArray) -> dict[str, dict[str, list[float]]]:
    """Edges and counts of each; what a method does not have (NaN) is left out."""
    histograms = {}
    for name, values in counted.items():
        finite = values[np.isfinite(values)]
        if len(finite):
            counts, edges = np.histogram(finite, bins=bins)
            histograms[name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return histograms


def png(image: Image) -> bytes:
    """The picture, encoded without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
