"""`cluster=ray`: the missing shards of an augmentation, made by workers on Ray Data.

Each worker is an actor that holds the models and is handed a few shards at a time. A shard is the
same whoever makes it, so that work may be handed out again when a worker or its machine dies.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from rich.console import Console

from sgid.cluster.connection import connected, room
from sgid.cluster.maker import DIED, Maker, Tally, not_shared, seen
from sgid.cluster.order import CAPTIONS, Order, order
from sgid.cluster.storage import Storage, absolute
from sgid.config import ClusterConfig
from sgid.job import Run
from sgid.progress import progress
from sgid.stages.augment import Augmentation, mend
from sgid.stores.store import Store

log = logging.getLogger(__name__)

PIECE = 4
"""Shards that a worker is handed at a time, where there are many: it then never waits for one."""


def make(run: Run, augmentation: Augmentation, console: Console) -> None:
    """Make what is missing of an augmentation's stores. Safe to kill and to run again.

    Raises:
        ValueError: for what a worker or this process found that a person can mend.
        ChildProcessError: if workers died `cluster.attempts` times at the same work.
    """
    if not mend(augmentation, run.config):
        return
    stores, cluster = augmentation.stores, run.config.cluster
    storages = {kind: _storage(cluster, store) for kind, store in stores.items()}
    missing = {kind: _fetched(store, storages[kind], console) for kind, store in stores.items()}
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1.0 if run.models.device.type == "cuda" else 0.0
    with connected(cluster, gpus) if any(missing.values()) else nullcontext():
        for kind, store in stores.items():
            if missing[kind]:
                asked = order(run, augmentation, kind)
                said = _made(asked, store, storages[kind], missing[kind], gpus)
                console.print(f"{kind}: {said}", highlight=False)
            store.finish()
            if (storage := storages[kind]) is not None and kind == CAPTIONS:
                storage.fill()  # for the workers that draw


def _made(
    asked: Order, store: Store, storage: Storage | None, missing: Sequence[int], gpus: float
) -> str:
    """Have `missing` made; who made them."""
    cluster = asked.config.cluster
    left = sum(len(store.range(shard)) for shard in missing)
    workers = set()
    with progress(asked.kind, store.rows, "images", done=store.rows - left) as bar:
        for row in _rows(asked, missing, gpus):
            shard = row["shard"]
            _told(row, cluster.attempts)
            if storage is not None:
                if not storage.get(shard):
                    raise ValueError(f"{storage.folder}: shard {shard} is not what was left there")
            elif not seen(store.part(shard).is_file):
                raise ValueError(not_shared(store))
            workers.add(row["worker"])
            bar.update(len(store.range(shard)))
    nodes = {worker.partition("/")[0] for worker in workers}
    return f"{len(missing):,} shards by {len(workers):,} workers on {len(nodes):,} nodes"


def _rows(asked: Order, missing: Sequence[int], gpus: float) -> Iterable[dict[str, Any]]:
    """What the workers say of each shard, as it is done."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, from_items
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cluster = asked.config.cluster
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally = ray.remote(num_cpus=0)(Tally).options(scheduling_strategy=here).remote()
    # By default a machine that is lost while a worker starts on it ends all, and so do 30 minutes
    # without a result, which large images may take, or a cluster to find room.
    settings = DataContext.get_current()
    settings.max_consecutive_actor_init_deaths = cluster.attempts
    settings.execution_no_progress_timeout_s = -1
    piece = max(1, min(PIECE, len(missing) // (4 * max(1, room(cluster, gpus)))))
    pieces = -(-len(missing) // piece)
    most = min(cluster.max_workers or pieces, pieces)
    pool = ActorPoolStrategy(
        min_size=min(cluster.min_workers, most),
        max_size=most,
        max_tasks_in_flight_per_actor=2,  # one is waiting while another is made
    )
    shards = from_items([{"shard": one} for one in missing], override_num_blocks=len(missing))
    made = shards.map_batches(
        Maker,
        fn_constructor_args=(asked, tally),
        batch_size=piece,
        compute=pool,
        num_cpus=cluster.cpus,
        num_gpus=gpus,
    )
    return made.iter_rows()


def _told(row: dict[str, Any], attempts: int) -> None:
    """Hand on what a worker has to say."""
    for line in row["warnings"].splitlines():
        log.warning("%s", line)
    if row["error"] == DIED:
        raise ChildProcessError(
            f"Workers died {attempts} times at shard {row['shard']} (cluster.attempts={attempts}), "
            "which may need more memory than a node has: fewer images at a time need less "
            "(models.captioner.batch_size, models.generator.batch_size), and so do fewer workers "
            "on a node (cluster.cpus, cluster.gpus). What is done is kept"
        )
    if row["error"]:
        node = row["worker"].partition("/")[0]
        told = f"{row['error']}\n(a worker on node {node})"
        raise ValueError(told) from RuntimeError(row["trace"])


def _storage(cluster: ClusterConfig, store: Store) -> Storage | None:
    return None if cluster.storage is None else Storage(absolute(cluster.storage), store)


def _fetched(store: Store, storage: Storage | None, console: Console) -> list[int]:
    """The shards that are missing still when all that lies in the storage is fetched."""
    missing = store.missing()
    if storage is None:
        return missing
    left = [shard for shard in missing if not storage.get(shard)]
    if storage.damaged:
        console.print(
            f"{len(storage.damaged):,} shards in {storage.folder} were damaged: made again",
            style="yellow",
            markup=False,
        )
    return left
