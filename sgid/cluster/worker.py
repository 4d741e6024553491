"""Ray workers: each holds the models, and makes the shards that it is given."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.config.schema import ClusterConfig
from sgid.errors import fault
from sgid.stages.augment import Augmentation
from sgid.stages.run import Run, on_workers
from sgid.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sgid.cluster.storage import Storage
    from sgid.methods.requests import RequestPlan


DIED = "died"
"""Said of shards at which workers died `cluster.attempts` times."""

PATIENCE = 60
"""Seconds in which a shared file system shows to all what one machine has written."""


@final
class ShardWorker:
    """Makes shards; lives in a process of its own, and loads nothing before it has work."""

    def __init__(self, job: ShardJob, tally: Any) -> None:
        self.job = job
        self.tally = tally  # a handle of the `AttemptCounter` that all workers share

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        """The shards of a batch, each with what went wrong, or "", and who made it.

        Ray starts a worker that died again, and hands out its batch again, for ever: that this was
        too often is found here. What a person can mend comes back as text: raised here, it would
        arrive as a page of Ray.
        """
        import ray

        shards = batch["shard"].tolist()
        error, trace = "", ""
        with _warnings() as heard:
            try:
                begun: Any = ray.get(self.tally.begin.remote(shards))
                if begun > self.job.cluster.attempts:
                    error = DIED
                else:
                    self._make(shards)
            except Exception as raised:
                told = _for_people(raised, self.job)
                if told is None:
                    raise
                error, trace = told, traceback.format_exc()
        alike = {"error": error, "trace": trace, "worker": _name(), "warnings": "\n".join(heard)}
        return {"shard": shards, **{key: [value] * len(shards) for key, value in alike.items()}}

    def _make(self, shards: list[int]) -> None:
        from sgid.stages.augment import describe_shards, generate_shards

        run, store, storage = self._run, self._store, self._storage
        if storage is not None:  # what a worker has left there that died before it said so
            shards = [shard for shard in shards if not storage.has(shard)]
        if self.job.kind == CAPTIONS:
            describe_shards(store, run.dataset.train, run.models, shards)
        else:
            generate_shards(store, self._plan, run.models, shards, format=store.spec["format"])
        if storage is not None:
            for shard in shards:
                try:
                    storage.put(shard)
                except FileNotFoundError:  # another worker of this node has left it there
                    if not storage.has(shard):
                        raise
                store.part(shard).unlink(missing_ok=True)

    @cached_property
    def _run(self) -> Run:
        if self.job.offline:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import torch

        from sgid.runtime.files import file_lock, require_writable

        job = self.job
        torch.set_num_threads(job.cluster.cpus)
        artifacts = Path(job.artifacts)
        require_writable(artifacts, "paths.artifacts")
        if job.cluster.storage is None:
            return job.prepare()
        with file_lock(artifacts / "prepare.lock"):  # one worker of a node reads all images
            return job.prepare()

    @cached_property
    def _augmentation(self) -> Augmentation:
        (one,) = (one for one in self._run.augmentations if one.method.name == self.job.method)
        return one

    @cached_property
    def _store(self) -> Store:
        return self.job.store(self._augmentation)

    @cached_property
    def _storage(self) -> Storage | None:
        from sgid.cluster.storage import Storage

        url = self.job.cluster.storage
        return None if url is None else Storage(url, self._store)

    @cached_property
    def _plan(self) -> RequestPlan:
        if (described := self._augmentation.described) is not None:
            self._bring(described)
        return self._augmentation.plan()

    def _bring(self, captions: Store) -> None:
        """Wait until the captions are here that the driver knows to be made."""
        from sgid.cluster.storage import Storage
        from sgid.runtime.files import file_lock

        url, artifacts = self.job.cluster.storage, self.job.artifacts
        if url is not None:
            storage = Storage(url, captions)
            with file_lock(Path(artifacts) / "captions.lock"):
                if lost := [shard for shard in captions.missing() if not storage.get(shard)]:
                    raise ValueError(
                        f"cluster.storage={url} has lost captions (shards {lost} in "
                        f"{storage.folder}): the same command leaves them there again"
                    )
                captions.finish()
        elif not seen(lambda: captions.complete):
            raise ValueError(not_shared(captions))


@final
class AttemptCounter:
    """How often each shard was begun; an actor beside the driver, which outlives the workers."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, shards: list[int]) -> int:
        """Count these once more: how often one of them was begun."""
        self.begun.update(shards)
        return max(self.begun[shard] for shard in shards)


def seen(there: Callable[[], bool]) -> bool:
    """Wait until a shared file system shows what another machine has written: whether it does."""
    until = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def not_shared(store: Store) -> str:
    return (
        f"{store.folder} is not the same folder on all nodes. Without cluster.storage, "
        "paths.artifacts must lie on a file system that they share; else give a folder or URL that "
        "all of them reach with cluster.storage=URL"
    )


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What this package warns of within the block; a worker's own output is seen by nobody."""
    heard: list[str] = []

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(self.format(record))

    handler, logger = Hearing(logging.WARNING), logging.getLogger("sgid")
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)


def _for_people(error: BaseException, job: ShardJob) -> str | None:
    """What to tell a person, or `None` for what only a developer can mend."""
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    told = fault(error, {"paths.artifacts": job.artifacts})
    return told or (str(error) if isinstance(error, ValueError | OSError) else None)


def _name() -> str:
    """This worker among all: the machine it runs on, and its process there."""
    import ray

    return f"{ray.get_runtime_context().get_node_id()}/{os.getpid()}"


CAPTIONS = "captions"


@dataclass(frozen=True)
class ShardJob:
    """The shards of `kind` ("captions", or a method's name) that `method` needs.

    `prepare` makes the run on a worker, with no path that only the driver's working directory
    explains; `spec` is what determines the driver's store: a worker that would make another one
    says so.
    """

    prepare: Callable[[], Run]
    cluster: ClusterConfig
    artifacts: str
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


def shard_job(run: Run, augmentation: Augmentation, kind: str) -> ShardJob:
    """The job of making shards of `augmentation.stores[kind]`."""
    prepare = on_workers(run)
    config = prepare.args[0]
    return ShardJob(
        prepare=prepare,
        cluster=config.cluster,
        artifacts=config.paths.artifacts,
        method=augmentation.method.name,
        kind=kind,
        spec=augmentation.stores[kind].spec,
        offline=os.environ.get("HF_HUB_OFFLINE") == "1",
    )


def _differing(key: str, worker: Any, driver: Any) -> Iterator[str]:
    """A line for each value in which two specs differ."""
    if isinstance(worker, Mapping) and isinstance(driver, Mapping):
        for name in sorted({*worker, *driver}):
            yield from _differing(f"{key}.{name}", worker.get(name), driver.get(name))
    elif worker != driver:
        yield f"{key.removeprefix('.')}={worker}, not {driver}"
