"""`stage=augment`: caption, score, and re-draw the training images, into content-addressed stores.

A described store depends on the images, the captioner and the scorer alone; a generated store on a
described store (or, for methods without captions, on the images) and on the recipe. So a sweep
captions once, and all backbones share one set of generated images.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sgid.config import Config
from sgid.data.datasets import Dataset
from sgid.data.images import ImageSet
from sgid.generation.recipes import Plan, Recipe, Undescribed
from sgid.generation.rows import schema, to_row
from sgid.generation.stored import StoredDescriptions
from sgid.models import Models
from sgid.overlap import THREADS, Behind, ahead, together
from sgid.progress import progress
from sgid.records import Request, Sample
from sgid.semantics.describe import describe
from sgid.slots import in_slot, recipes
from sgid.store import Store

PIECE = 64
"""Originals that are captioned at a time: photographs take some 30 MB each, decoded."""


@dataclass(frozen=True)
class Augmentation:
    """One generative method over one training set, and the stores that hold its results."""

    recipe: Recipe
    described: Store | None
    generated: Store

    @property
    def complete(self) -> bool:
        return self.generated.complete


def augmentations(config: Config, dataset: Dataset, models: Models) -> list[Augmentation]:
    """What the config's generative methods need and where it lies; nothing is computed."""
    return [_augmentation(recipe, config, dataset, models) for recipe in recipes(config)]


def augment(augmentation: Augmentation, config: Config, dataset: Dataset, models: Models) -> None:
    """Make what is missing of an augmentation's stores. Safe to kill and to run again."""
    if augmentation.complete:
        return
    plan = planned(augmentation, config, dataset, models)
    _generate(augmentation.generated, plan, models, format=config.store.format)


def planned(augmentation: Augmentation, config: Config, dataset: Dataset, models: Models) -> Plan:
    """All requests of an augmentation; captions are made first, where they are missing."""
    images, recipe = dataset.train, augmentation.recipe
    if augmentation.described is None:
        described, similarities = Undescribed(images), np.full(len(images), np.nan)
    else:
        _describe(augmentation.described, images, models)
        described = StoredDescriptions(
            augmentation.described, caption=recipe.caption, seed=config.seed
        )
        similarities = described.similarities()
    return Plan(
        images=images,
        described=described,
        similarities=similarities,
        recipe=recipe,
        phrases=dataset.phrases,
        expansion=config.expansion,
        seed=config.seed,
        resolution=config.models.generator.resolution,
        multiple=config.models.generator.size_multiple,
    )


def _augmentation(recipe: Recipe, config: Config, dataset: Dataset, models: Models) -> Augmentation:
    artifacts, images = Path(config.paths.artifacts), dataset.train
    described = None
    if recipe.needs_captions:
        described = _described_store(artifacts, config, images, models)
    spec = {
        "kind": "generated",
        "source": described.folder.name if described else images.digest(),
        "method": recipe.method,
        **in_slot(config, "offline")[recipe.method],
        "caption": recipe.caption,
        "noun": dataset.noun,
        "steps": config.steps,
        "size_multiple": config.models.generator.size_multiple,
        "generator": models.identity("generator"),
        "expansion": config.expansion,
        "seed": config.seed,
        **asdict(config.store),
    }
    rows = len(images) * config.expansion
    store = Store(artifacts / "generated", spec, schema(), rows, config.store.shard_size)
    return Augmentation(recipe, described, store)


def _described_store(artifacts: Path, config: Config, images: ImageSet, models: Models) -> Store:
    import pyarrow as pa

    text, texts, reals = pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())
    columns = {
        "key": text,
        "label": pa.int64(),
        "class_name": text,
        "caption": text,
        "similarity": pa.float64(),
        "candidates": texts,
        "scores": reals,
    }
    spec = {
        "kind": "described",
        "images": images.digest(),
        "captioner": models.identity("captioner"),
        "sampling": "inverse transform",
        "scorer": models.identity("scorer"),
        "shard_size": config.store.shard_size,
    }
    size = config.store.shard_size
    return Store(artifacts / "described", spec, pa.schema(columns.items()), len(images), size)


def _describe(store: Store, images: ImageSet, models: Models) -> None:
    missing = store.missing()
    pieces = [
        (shard, store.range(shard)[start : start + PIECE])
        for shard in missing
        for start in range(0, len(store.range(shard)), PIECE)
    ]

    def samples(piece: tuple[int, range]) -> list[Sample]:
        return list(together(images.__getitem__, piece[1]))

    with (
        _bar("caption", store, missing) as bar,
        closing(ahead(map(samples, pieces))) as decoded,
        Behind(1, waiting=1) as writer,
    ):
        rows = []
        for (shard, _), some in zip(pieces, decoded, strict=True):
            for described in describe(some, models.captioner, models.scorer):
                rows.append(asdict(described))
                bar.update()
            if len(rows) == len(store.range(shard)):
                writer.call(store.write, shard, rows)
                rows = []
    store.finish()


def _generate(store: Store, plan: Plan, models: Models, *, format: str) -> None:
    """The engine draws in this thread; requests are made ahead of it, and rows behind it."""
    missing = store.missing()
    with (
        _bar(plan.recipe.method, store, missing) as bar,
        closing(ahead(plan.requests(store.range(shard)) for shard in missing)) as prepared,
        Behind(THREADS, waiting=4 * THREADS) as encoder,
        Behind(1, waiting=1) as writer,
    ):
        for shard, requests in zip(missing, prepared, strict=True):
            rows: dict[tuple[str, int], Future[dict[str, Any]]] = {}
            for generated in models.generator.generate(requests):
                rows[_which(generated.request)] = encoder.call(to_row, generated, format=format)
                writer.check()  # a full disk is told now, not when the next shard is done
                bar.update()
            writer.call(_write, store, shard, [_which(request) for request in requests], rows)
    store.finish()


def _write(
    store: Store,
    shard: int,
    order: list[tuple[str, int]],
    rows: dict[tuple[str, int], Future[dict[str, Any]]],
) -> None:
    """Write the rows of a shard, once they are made, in the order of its requests."""
    assert rows.keys() == set(order), f"shard {shard}: other images came than were asked for"
    store.write(shard, [rows[one].result() for one in order])


def _which(request: Request) -> tuple[str, int]:
    return request.described.key, request.repeat


def _bar(what: str, store: Store, missing: Sequence[int]) -> tqdm:
    left = sum(len(store.range(shard)) for shard in missing)
    return progress(what, store.rows, "images", done=store.rows - left)
