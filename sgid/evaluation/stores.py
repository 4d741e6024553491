"""What a generated store holds: its consistency, its histograms, and a few examples to look at."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import numpy as np

from sgid.data.decode import decode
from sgid.data.images import ImageSet
from sgid.evaluation.consistency import consistency
from sgid.seeding import derive_seed
from sgid.semantics.similarity import OpenClipScorer
from sgid.store import Store

CLASS_PROMPT = "a photo of a {}"


def summarise(
    store: Store,
    images: ImageSet,
    scorer: OpenClipScorer,
    *,
    on_images: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Counts, consistency and histograms of a complete store, as JSON can say them."""
    row_of = {key: i for i, key in enumerate(images.keys)}
    vectors, origin, labels, similarity, scale = [], [], [], [], []
    for rows in store.batches():
        vectors.append(scorer.embed_images([decode(row["image"]["bytes"]) for row in rows]))
        origin += [row_of[row["key"]] for row in rows]
        labels += [row["label"] for row in rows]
        similarity += [row["similarity"] for row in rows]
        scale += [row["guidance_scale"] for row in rows]
        if on_images:
            on_images(len(rows))
    classes = scorer.embed_texts([CLASS_PROMPT.format(name) for name in images.class_names])
    measured = consistency(
        np.concatenate(vectors),
        np.array(origin),
        embed(images, scorer),
        np.array(labels),
        classes,
        images.class_names,
    )
    return {
        "method": store.spec["method"],
        "path": str(store.folder),
        "images": store.rows,
        "histograms": _histograms(similarity=similarity, guidance_scale=scale),
        **asdict(measured),
    }


def embed(images: ImageSet, scorer: OpenClipScorer, *, at_once: int = 1024) -> np.ndarray:
    """(N, D) embeddings of a set, decoding `at_once` images at a time."""
    starts = range(0, len(images), at_once)
    groups = (range(start, min(start + at_once, len(images))) for start in starts)
    return np.concatenate([scorer.embed_images([images[i].image for i in g]) for g in groups])


def examples(store: Store, images: ImageSet, *, count: int) -> list[dict[str, Any]]:
    """`count` originals, spread over the classes, each with all its generated images as PNG."""
    chosen = {images.keys[i]: images[i] for i in _spread(images, count)}
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in chosen}
    for rows in store.batches():
        for row in rows:
            if row["key"] in found:
                found[row["key"]].append(row)
    shared = ("caption", "similarity", "prompt", "guidance_scale", "strength")
    return [
        {
            "method": store.spec["method"],
            "key": key,
            "class_name": chosen[key].class_name,
            **{name: rows[0][name] for name in shared},
            "original": _png(chosen[key].image),
            "images": [_png(decode(row["image"]["bytes"])) for row in rows],
        }
        for key, rows in found.items()
    ]


def _spread(images: ImageSet, count: int) -> list[int]:
    """Indices of `count` images, class after class in turn, the same for every method."""
    by_class: dict[int, list[int]] = {}
    for i in sorted(range(len(images)), key=lambda i: derive_seed(0, "example", images.keys[i])):
        by_class.setdefault(images.labels[i], []).append(i)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [i for turn in turns for i in turn if i is not None][:count]


def _histograms(bins: int = 24, **counted: Sequence[float]) -> dict[str, dict[str, list[float]]]:
    """Edges and counts of each; what a method does not have (NaN) is left out."""
    histograms = {}
    for name, values in counted.items():
        finite = np.array(values)[np.isfinite(values)]
        if len(finite):
            counts, edges = np.histogram(finite, bins=bins)
            histograms[name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return histograms


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
