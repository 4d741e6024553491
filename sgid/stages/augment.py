"""`stage=augment`: caption, score, and re-draw the training images, into content-addressed stores.

A described store depends on the images, the captioner and the scorer alone; a generated store on a
described store (or, for methods without captions, on the images) and on the method. So a sweep
captions once, and all backbones share one set of generated images. Both are made shard by shard,
skipping the shards that another process is making.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sgid.config.schema import Config, in_slot
from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.methods.describe import PLACES, describe
from sgid.methods.requests import Method, RequestPlan, Undescribed, recipes
from sgid.models.loader import Models
from sgid.records import Request, Sample
from sgid.runtime.files import PATIENCE
from sgid.runtime.terminal import progress
from sgid.runtime.threads import THREADS, BackgroundWriter, parallel_map, prefetch
from sgid.store.claims import Claim, Claims
from sgid.store.integrity import invalidate_corrupt_shards
from sgid.store.store import Store
from sgid.store.tables import StoredDescriptions, schema, to_row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Augmentation:
    """One generative method over one training set, and the stores that hold its results."""

    recipe: Method
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
    if not repair(augmentation, config):
        return
    plan = request_plan(augmentation, config, dataset, models)
    if not augmentation.complete:
        generate_shards(augmentation.generated, plan, models, format=config.store.format)
        augmentation.generated.finish()


def repair(augmentation: Augmentation, config: Config) -> bool:
    """Take back the damaged shards of an augmentation's stores; whether anything is to be made."""
    for store in augmentation.stores.values():
        for name in invalidate_corrupt_shards(store, everything=config.store.verify):
            log.warning("%s is not what was written: it is made again", store.folder / name)
    described = augmentation.described
    # Captions that somebody removed are not missed; damaged ones are made again.
    whole = described is None or described.complete or not described.folder.is_dir()
    return not (augmentation.complete and whole)


def request_plan(
    augmentation: Augmentation, config: Config, dataset: Dataset, models: Models
) -> RequestPlan:
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
    return RequestPlan(
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


def _augmentation(recipe: Method, config: Config, dataset: Dataset, models: Models) -> Augmentation:
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
        "noun": dataset.nouns,
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


PIECE = 64
"""Originals that are captioned at a time: photographs take some 30 MB each, decoded."""


def describe_shards(
    store: Store, images: ImageSet, models: Models, shards: Sequence[int] | None = None
) -> None:
    """Caption and score `shards`, or all; what is there or being made elsewhere is left alone.

    Returns when all of them are there.
    """

    def pieces(claims: Claims) -> Iterator[tuple[Claim | None, list[Sample]]]:
        for claim in claims:
            if claim is None:
                yield None, []
                continue
            for start in range(0, len(claim.rows), PIECE):
                piece = claim.rows[start : start + PIECE]
                yield claim, list(parallel_map(images.__getitem__, piece))

    with (
        _claimed("caption", store, shards) as (claims, bar),
        closing(prefetch(pieces(claims))) as decoded,
        BackgroundWriter(1, waiting=1) as writer,
    ):
        rows = []
        for claim, samples in decoded:
            if claim is None:
                _wait(bar)
                continue
            for described in describe(samples, models.captioner, models.exact_scorer):
                rows.append(asdict(described))
                bar.update()
            writer.wait()
            if len(rows) == len(claim.rows):
                writer.call(claim.write, rows)
                rows = []


def generate_shards(
    store: Store,
    plan: RequestPlan,
    models: Models,
    shards: Sequence[int] | None = None,
    *,
    format: str,
) -> None:
    """Draw `shards`, or all; what is there or being made elsewhere is left alone.

    The engine draws in this thread; requests are made ahead of it, and rows behind it. Returns when
    all of them are there. What is lost with the process is the shard being drawn, and the one
    before it while its file is written.
    """
    with (
        _claimed(plan.recipe.method, store, shards) as (claims, bar),
        closing(
            prefetch((one, plan.requests(one.rows) if one else []) for one in claims)
        ) as prepared,
        BackgroundWriter(THREADS, waiting=4 * THREADS) as encoder,
        BackgroundWriter(1, waiting=1) as writer,
    ):
        for claim, requests in prepared:
            if claim is None:
                _wait(bar)
                continue
            rows: dict[tuple[str, int], Future[dict[str, Any]]] = {}
            for generated in models.generator.generate(requests):
                rows[_which(generated.request)] = encoder.call(to_row, generated, format=format)
                bar.update()
                writer.wait()  # the shard before this one; a full disk is told now
            writer.call(_write, claim, [_which(request) for request in requests], rows)


def _write(
    claim: Claim,
    order: list[tuple[str, int]],
    rows: dict[tuple[str, int], Future[dict[str, Any]]],
) -> None:
    """Write the rows of a shard, once they are made, in the order of its requests."""
    assert rows.keys() == set(order), f"shard {claim.shard}: other images came than were asked for"
    claim.write([rows[one].result() for one in order])


def _which(request: Request) -> tuple[str, int]:
    return request.described.key, request.repeat


@contextmanager
def _claimed(
    what: str, store: Store, shards: Sequence[int] | None
) -> Iterator[tuple[Claims, tqdm]]:
    """The shards to make, and a bar of the whole store, which counts what others make as well."""

    def made_elsewhere(shard: int) -> None:
        bar.update(len(store.range(shard)))

    with (
        Claims(store, shards, elsewhere=made_elsewhere) as claims,
        progress(what, store.rows, "images", done=store.rows - claims.rows) as bar,
    ):
        yield claims, bar


def _wait(bar: tqdm) -> None:
    """For the shards that are being made by other processes."""
    bar.set_postfix_str("waiting for another process")
    time.sleep(PATIENCE)
    bar.set_postfix_str("", refresh=False)
