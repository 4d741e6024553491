"""`stage=augment`: caption, score, and re-draw the training images, into content-addressed stores.

A described store depends on the images, the captioner and the scorer alone; a generated store on a
described store (or, for methods without captions, on the images) and on the recipe. So a sweep
captions once, and all backbones share one set of generated images.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgid.config.schema import Config, in_slot
from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.generation.rows import schema
from sgid.generation.stored import StoredDescriptions
from sgid.methods.describe import PLACES
from sgid.methods.requests import Plan, Recipe, Undescribed, recipes
from sgid.models.loader import Models
from sgid.stages.shards import describe_shards, generate_shards
from sgid.stores.damage import take_back_damaged
from sgid.stores.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Augmentation:
    """One generative method over one training set, and the stores that hold its results."""

    recipe: Recipe
    described: Store | None
    generated: Store

    @property
    def complete(self) -> bool:
        return self.generated.complete

    @property
    def stores(self) -> dict[str, Store]:
        """By what they hold, in the order in which they are made."""
        described = {"captions": self.described} if self.described else {}
        return {**described, self.recipe.method: self.generated}


def augmentations(config: Config, dataset: Dataset, models: Models) -> list[Augmentation]:
    """What the config's generative methods need and where it lies; nothing is computed."""
    return [_augmentation(recipe, config, dataset, models) for recipe in recipes(config)]


def augment(augmentation: Augmentation, config: Config, dataset: Dataset, models: Models) -> None:
    """Make what is missing of an augmentation's stores. Safe to kill and to run again."""
    if not mend(augmentation, config):
        return
    plan = planned(augmentation, config, dataset, models)
    if not augmentation.complete:
        generate_shards(augmentation.generated, plan, models, format=config.store.format)
        augmentation.generated.finish()


def mend(augmentation: Augmentation, config: Config) -> bool:
    """Take back the damaged shards of an augmentation's stores; whether anything is to be made."""
    for store in augmentation.stores.values():
        for name in take_back_damaged(store, everything=config.store.verify):
            log.warning("%s is not what was written: it is made again", store.folder / name)
    described = augmentation.described
    # Captions that somebody removed are not missed; damaged ones are made again.
    whole = described is None or described.complete or not described.folder.is_dir()
    return not (augmentation.complete and whole)


def planned(augmentation: Augmentation, config: Config, dataset: Dataset, models: Models) -> Plan:
    """All requests of an augmentation; captions are made first, where they are missing."""
    images, recipe = dataset.train, augmentation.recipe
    if augmentation.described is None:
        described, similarities = Undescribed(images), np.full(len(images), np.nan)
    else:
        store = augmentation.described
        if not store.complete:
            describe_shards(store, images, models)
            store.finish()
        described = StoredDescriptions(store, caption=recipe.caption, seed=config.seed)
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
        "redrawn": "float32",
        **in_slot(config, "offline")[recipe.method],
        "caption": recipe.caption,
        "noun": dataset.noun,
        "steps": config.steps,
        "size_multiple": config.models.generator.size_multiple,
        "generator": models.identity("generator"),
        "expansion": config.expansion,
        "seed": config.seed,
        "shard_size": config.store.shard_size,
        "format": config.store.format,
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
        "scores": f"{PLACES} decimals",
        "scorer": models.identity("exact_scorer"),
        "shard_size": config.store.shard_size,
    }
    size = config.store.shard_size
    return Store(artifacts / "described", spec, pa.schema(columns.items()), len(images), size)
