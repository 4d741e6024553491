"""`cluster=ray`: make the missing shards of an augmentation with workers on Ray Data.

Each worker is an actor that holds the models and is given a few shards at a time. A shard is the
same whoever makes it, so that work may be given out again when a worker or its machine dies. A Ray
that a run starts itself listens on the loopback alone, and asks for a token.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from rich.console import Console

from sgid.cluster.storage import Storage
from sgid.cluster.worker import (
    CAPTIONS,
    DIED,
    AttemptCounter,
    ShardJob,
    ShardWorker,
    not_shared,
    shard_job,
    wait_until_visible,
)
from sgid.config.schema import ClusterConfig
from sgid.runtime.files import absolute
from sgid.runtime.terminal import progress
from sgid.stages.augment import Augmentation
from sgid.stages.run import Run
from sgid.store.store import Store

log = logging.getLogger(__name__)

PIECE = 4
"""Shards that a worker gets at a time, where there are many, so that it does not wait for work."""


def make_stores(run: Run, augmentation: Augmentation, console: Console) -> None:
    """Make the missing shards of an augmentation's stores. Safe to kill and to run again.

    Raises:
        ValueError: for errors of a worker or of this process that the user can correct.
        ChildProcessError: if workers died `cluster.attempts` times at the same work.
    """
    if not augmentation.repair():
        return
    if augmentation.artifact is not None and run.cluster.storage is not None:
        raise ValueError(
            f"cluster.storage={run.cluster.storage}: each machine would prepare its own "
            f"{augmentation.method.name} from the images, and draw other images; take a folder for "
            "paths.artifacts that the machines share, without cluster.storage"
        )
    stores, cluster = augmentation.stores, run.cluster
    storages = {kind: _storage(cluster, store) for kind, store in stores.items()}
    missing = {
        kind: _missing_after_fetch(store, storages[kind], console) for kind, store in stores.items()
    }
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1.0 if run.models.device.type == "cuda" else 0.0
    with connect(cluster, gpus) if any(missing.values()) else nullcontext():
        for kind, store in stores.items():
            if missing[kind]:
                job = shard_job(run, augmentation, kind)
                summary = _run_workers(job, store, storages[kind], missing[kind], gpus)
                console.print(f"{kind}: {summary}", highlight=False)
            store.finish()
            if (storage := storages[kind]) is not None and kind == CAPTIONS:
                storage.fill()  # for the workers that draw


def _run_workers(
    job: ShardJob, store: Store, storage: Storage | None, missing: Sequence[int], gpus: float
) -> str:
    """Make the `missing` shards; a line about the workers that did."""
    cluster = job.cluster
    left = sum(len(store.range(shard)) for shard in missing)
    workers = set()
    with progress(job.kind, store.rows, "images", done=store.rows - left) as bar:
        for row in _rows(job, missing, gpus):
            shard = row["shard"]
            _report(row, cluster.attempts)
            if storage is not None:
                if not storage.get(shard):
                    raise ValueError(
                        f"{storage.folder}: shard {shard} has another hash than was uploaded"
                    )
            elif not wait_until_visible(store.part(shard).is_file):
                raise ValueError(not_shared(store))
            workers.add(row["worker"])
            bar.update(len(store.range(shard)))
    nodes = {worker.partition("/")[0] for worker in workers}
    return f"{len(missing):,} shards by {len(workers):,} workers on {len(nodes):,} nodes"


def _rows(job: ShardJob, missing: Sequence[int], gpus: float) -> Iterable[dict[str, Any]]:
    """One row for each shard, as the workers finish it."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, from_items
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cluster = job.cluster
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally = ray.remote(num_cpus=0)(AttemptCounter).options(scheduling_strategy=here).remote()
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
        ShardWorker,
        fn_constructor_args=(job, tally),
        batch_size=piece,
        compute=pool,
        num_cpus=cluster.cpus,
        num_gpus=gpus,
    )
    return made.iter_rows()


def _report(row: dict[str, Any], attempts: int) -> None:
    """Log the warnings of a worker, and raise its error."""
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
        message = f"{row['error']}\n(a worker on node {node})"
        raise ValueError(message) from RuntimeError(row["trace"])


def _storage(cluster: ClusterConfig, store: Store) -> Storage | None:
    return None if cluster.storage is None else Storage(absolute(cluster.storage), store)


def _missing_after_fetch(store: Store, storage: Storage | None, console: Console) -> list[int]:
    """Fetch the shards that lie in the storage; those that are still missing."""
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


QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of this process too, on its standard error
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


LOOPBACK = {
    # Ray's name for it is of the systems where this is the default: bind to 127.0.0.1 alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    # Else its workers run at 15, and all but stand still while anything else is at work here.
    "RAY_worker_niceness": "0",
}


ONCE = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # else `auto` asks a cluster that has gone for 14 minutes


ANSWER = 10
"""Seconds in which the head of a cluster takes a connection."""

TOKEN = "RAY_AUTH_TOKEN"  # else Ray writes one to the home folder

LONGEST = 20
"""Bytes of the temporary folder's name: of the 103 that a socket's may have on macOS (on Linux
107), Ray's own part takes up to 64, and the folder that is made for it 18."""

OBJECTS = 256 * 2**20
"""Bytes for what Ray holds in memory: only numbers of shards travel by it."""


@contextmanager
def connect(cluster: ClusterConfig, gpus: float) -> Iterator[None]:
    """Start Ray for this process, or join the cluster at `cluster.address`, until the block ends.

    However the block ends, the workers end with it: a cluster ends those of a driver that left.

    Raises:
        ValueError: if there is no such cluster, or this machine cannot hold a worker.
    """
    # Read when Ray is imported.
    for name, value in {**QUIET, **(ONCE if cluster.address else LOOPBACK)}.items():
        os.environ.setdefault(name, value)
    if cluster.address is None:
        os.environ.setdefault(TOKEN, secrets.token_hex(32))
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    common: dict[str, Any] = {
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": logging.ERROR,
    }
    folder = None
    try:
        if cluster.address is None:
            folder = tempfile.mkdtemp(prefix="sgid-ray-", dir=temporary_folder())
            ray.init(
                "local",
                include_dashboard=False,
                object_store_memory=OBJECTS,
                _temp_dir=folder,
                **common,
            )
        else:
            try:
                _require_answer(cluster.address)
                ray.init(cluster.address, **common)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"cluster.address={cluster.address}: {error}. Give auto, or HOST:PORT of the "
                    "head; cluster.address=null takes this machine alone"
                ) from error
        _restore(handlers)  # Ray has its own for SIGTERM
        _silence_ray_data()
        _require_room(cluster, gpus)
        yield
    finally:
        ray.shutdown()
        _restore(handlers)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_folder() -> str:
    """Parent of Ray's folder: the usual one, if names of sockets are short enough there.

    Not below `paths.artifacts`, and `/tmp` where SLURM or macOS give a longer one.
    """
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST else "/tmp"


def _require_answer(address: str) -> None:
    """Check that HOST:PORT accepts connections: Ray would try for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()


def room(cluster: ClusterConfig, gpus: float) -> int:
    """Number of workers that fit on the nodes of the cluster."""
    import ray

    total = ray.cluster_resources()
    rooms: list[float] = [total.get("CPU", 0) // cluster.cpus]
    if gpus:
        rooms.append(total.get("GPU", 0) // gpus)
    return int(min(rooms))


def _require_room(cluster: ClusterConfig, gpus: float) -> None:
    import ray

    if room(cluster, gpus) >= max(1, cluster.min_workers):
        return
    total = ray.cluster_resources()
    has = f"{total.get('CPU', 0):g} cores and {total.get('GPU', 0):g} GPUs"
    shortage = (
        f"cluster.min_workers={cluster.min_workers} with cluster.cpus={cluster.cpus} and "
        f"cluster.gpus={gpus:g} for each: there are {has}"
    )
    if cluster.address is None:
        raise ValueError(f"{shortage} on this machine; ask for less")
    logging.getLogger("sgid").warning("%s now; waiting for nodes to join", shortage)


def _silence_ray_data() -> None:
    """Leave the log of Ray Data to its own folder."""
    from ray._private.log import PlainRayHandler
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, PlainRayHandler):
            handler.setLevel(logging.CRITICAL)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        with suppress(ValueError):  # not in the main thread
            signal.signal(number, handler)
