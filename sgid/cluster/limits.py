"""The values that `cluster` may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec

from sgid.config.schema import ClusterConfig

NAMES = ("none", "ray")


def wrong(asked: ClusterConfig) -> Iterator[str]:
    """A line for each value that cannot be; none when all can."""
    if asked.name not in NAMES:
        yield f"cluster.name={asked.name}: must be one of {', '.join(NAMES)}"
        return
    if asked.name == "none":
        for one in fields(ClusterConfig)[1:]:
            if (value := getattr(asked, one.name)) != one.default:
                yield f"cluster.{one.name}={value}: without cluster=ray there is no cluster"
        return
    if find_spec("ray") is None:
        yield 'cluster=ray needs Ray: pip install "sgid[cluster]", or take cluster=none'
    if (asked.address or "").startswith("ray:"):
        yield f"cluster.address={asked.address}: run it on a node of the cluster, with auto"
    if asked.gpus is not None and asked.gpus > 1 and asked.gpus % 1:
        yield f"cluster.gpus={asked.gpus}: must be a whole number, or a share of one GPU"
    if asked.max_workers is not None and asked.max_workers < asked.min_workers:
        yield f"cluster.max_workers={asked.max_workers}: below cluster.min_workers"
