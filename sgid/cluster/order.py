"""What workers are asked for: one store of a run, with all that they need to make its shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgid.cluster.storage import absolute
from sgid.config import Config, Stage
from sgid.job import Run
from sgid.stages.augment import Augmentation
from sgid.stores.store import Store

CAPTIONS = "captions"
OWN = "cluster"
"""A node's own folder in `paths.artifacts`, where shards travel by `cluster.storage`."""


@dataclass(frozen=True)
class Order:
    """The shards of `kind` ("captions", or a method's name) that `method` needs.

    `config` holds no path that only the driver's working directory explains, and `spec` is what
    determines the driver's store: a worker that would make another one says so.
    """

    config: Config
    method: str
    kind: str
    spec: Mapping[str, Any]
    offline: bool

    def store(self, augmentation: Augmentation) -> Store:
        """The store to fill, among those of a worker.

        Raises:
            ValueError: if a worker would make other content than the driver asked for.
        """
        store = augmentation.stores[self.kind]
        if differing := list(_differing("", store.spec, self.spec)):
            raise ValueError(
                "A worker would make something else than was asked for, since it has\n"
                + "\n".join(f"  {line}" for line in differing)
                + "\nAll nodes need the same images, weights and code; and name the number "
                "formats, where a node without a GPU gives work to nodes with one: "
                "models.generator.dtype=float16, and so on"
            )
        return store


def order(run: Run, augmentation: Augmentation, kind: str) -> Order:
    """What workers need to make shards of `augmentation.stores[kind]`."""
    return Order(
        config=_for_workers(run.config),
        method=augmentation.recipe.method,
        kind=kind,
        spec=augmentation.stores[kind].spec,
        offline=os.environ.get("HF_HUB_OFFLINE") == "1",
    )


def _for_workers(config: Config) -> Config:
    """The config without what generates nothing, and with the driver's paths in full."""
    config = deepcopy(config)
    config.stage, config.logger, config.store.verify = Stage.augment, {}, False
    config.backbone.weights, config.evaluation.lpips = None, False
    if config.trainer.device.startswith("cuda"):
        config.trainer.device = "cuda"  # Ray shows a worker its own GPUs alone
    paths, cluster, generator = config.paths, config.cluster, config.models.generator
    paths.artifacts, paths.results, paths.data = map(
        absolute, (paths.artifacts, paths.results, paths.data)
    )
    if cluster.storage is not None:
        cluster.storage = absolute(cluster.storage)
        paths.artifacts = str(Path(paths.artifacts) / OWN)
    root, source = config.dataset.root, config.dataset.source
    if root is not None and Path(root).expanduser().exists():  # else the name of a set on the hub
        config.dataset.root = absolute(root)
        for key in [key for key, value in source.items() if value == root]:
            source[key] = absolute(root)
    for model in (config.models.captioner, config.models.scorer, generator):
        if model.weights.path is not None:
            model.weights.path = absolute(model.weights.path)
    if generator.tiny_vae is not None:
        generator.tiny_vae = absolute(generator.tiny_vae)
    return config


def _differing(key: str, worker: Any, driver: Any) -> Iterator[str]:
    """A line for each value in which two specs differ."""
    if isinstance(worker, Mapping) and isinstance(driver, Mapping):
        for name in sorted({*worker, *driver}):
            yield from _differing(f"{key}.{name}", worker.get(name), driver.get(name))
    elif worker != driver:
        yield f"{key.removeprefix('.')}={worker}, not {driver}"
