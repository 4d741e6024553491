"""Ray, quiet and closed: on this machine it listens on the loopback alone, and asks for a token."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sgid.config import ClusterConfig

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
def connected(cluster: ClusterConfig, gpus: float) -> Iterator[None]:
    """A Ray of this process's own, or the one at `cluster.address`; left at the end of the block.

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
            folder = tempfile.mkdtemp(prefix="sgid-ray-", dir=temporary())
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
        _hush()
        _require_room(cluster, gpus)
        yield
    finally:
        ray.shutdown()
        _restore(handlers)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def temporary() -> str:
    """The system's temporary folder, or `/tmp` where its name leaves too little for Ray's sockets.

    SLURM and macOS have such names; `paths.artifacts` may have one too.
    """
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST else "/tmp"


def _require_answer(address: str) -> None:
    """Ray itself would ask HOST:PORT, where nobody listens, for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()


def room(cluster: ClusterConfig, gpus: float) -> int:
    """How many workers the nodes that are there can hold."""
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
    said = (
        f"cluster.min_workers={cluster.min_workers} with cluster.cpus={cluster.cpus} and "
        f"cluster.gpus={gpus:g} for each: there are {has}"
    )
    if cluster.address is None:
        raise ValueError(f"{said} on this machine; ask for less")
    logging.getLogger("sgid").warning("%s now; waiting for nodes to join", said)


def _hush() -> None:
    """What Ray Data logs goes to Ray's own folder alone."""
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
