"""`stage=augment`: caption, score, and re-draw the training images, into content-addressed stores.

A described store depends on the images, the captioner and the scorer alone; a generated store on a
described store (or, for methods without captions, on the images) and on the recipe. So a sweep
captions once, and all backbones share one set of generated images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from sgid.config import Config
from sgid.data.datasets import Dataset
from sgid.data.images import ImageSet
from sgid.generation.recipes import Plan, Recipe
from sgid.generation.rows import schema, to_row
from sgid.models import Models
from sgid.progress import progress
from sgid.records import Described
from sgid.semantics.describe import choose, describe, undescribed
from sgid.slots import in_slot, recipes
from sgid.store import Store


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
        described = undescribed(images.keys, images.labels, images.class_names)
    else:
        _describe(augmentation.described, images, models)
        read = read_described(augmentation.described)
        described = [choose(one, recipe.caption, config.seed) for one in read]
    return Plan(
        images=images,
        described=described,
        recipe=recipe,
        phrases=dataset.phrases,
        expansion=config.expansion,
        seed=config.seed,
        resolution=config.models.generator.resolution,
        multiple=config.models.generator.size_multiple,
    )


def read_described(store: Store) -> list[Described]:
    """All records of a described store, in the order of the images."""
    return [
        Described(**{**row, "candidates": tuple(row["candidates"]), "scores": tuple(row["scores"])})
        for rows in store.batches()
        for row in rows
    ]


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
        "scorer": models.identity("scorer"),
        "shard_size": config.store.shard_size,
    }
    size = config.store.shard_size
    return Store(artifacts / "described", spec, pa.schema(columns.items()), len(images), size)


def _describe(store: Store, images: ImageSet, models: Models) -> None:
    with _bar("caption", store) as bar:
        for shard in store.missing():
            samples = [images[i] for i in store.range(shard)]
            rows = []
            for described in describe(samples, models.captioner, models.scorer):
                rows.append(asdict(described))
                bar.update()
            store.write(shard, rows)
    store.finish()


def _generate(store: Store, plan: Plan, models: Models, *, format: str) -> None:
    with _bar(plan.recipe.method, store) as bar:
        for shard in store.missing():
            requests = plan.requests(store.range(shard))
            order = {(r.described.key, r.repeat): i for i, r in enumerate(requests)}
            rows: list[dict[str, Any] | None] = [None] * len(requests)
            for generated in models.generator.generate(requests):
                key = generated.request.described.key, generated.request.repeat
                rows[order[key]] = to_row(generated, format=format)
                bar.update()
            store.write(shard, cast("list[dict[str, Any]]", rows))
    store.finish()


def _bar(what: str, store: Store) -> tqdm:
    missing = sum(len(store.range(shard)) for shard in store.missing())
    return progress(what, store.rows, "images", done=store.rows - missing)
