"""Ray workers: each holds the models, and makes the shards that it gets."""

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
"""Error of shards at which workers died `cluster.attempts` times."""

PATIENCE = 60
"""Seconds until a shared file system shows all machines what one has written."""


@final
class ShardWorker:
    """Ray actor that makes shards; it loads nothing before it has work."""

    def __init__(self, job: ShardJob, tally: Any) -> None:
        self.job = job
        self.tally = tally  # a handle of the `AttemptCounter` that all workers share

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        """Make the shards of a batch; a row for each, with its error, or "", and the worker.

        Ray restarts a worker that died and repeats its batch without limit: attempts are counted
        here. Errors for the user come back as text: raised here, they would
        arrive as a page of Ray.
        """
        import ray

        shards = batch["shard"].tolist()
        error, trace = "", ""
        with _warnings() as messages:
            try:
                begun: Any = ray.get(self.tally.begin.remote(shards))
                if begun > self.job.cluster.attempts:
                    error = DIED
                else:
                    self._make(shards)
            except Exception as raised:
                message = _user_message(raised, self.job)
                if message is None:
                    raise
                error, trace = message, traceback.format_exc()
        alike = {"error": error, "trace": trace, "worker": _name(), "warnings": "\n".join(messages)}
        return {"shard": shards, **{key: [value] * len(shards) for key, value in alike.items()}}

    def _make(self, shards: list[int]) -> None:
        from sgid.stages.augment import describe_shards, generate_shards

        run, store, storage = self._run, self._store, self._storage
        if storage is not None:  # uploaded by a worker that died before it reported them
            shards = [shard for shard in shards if not storage.has(shard)]
        if self.job.kind == CAPTIONS:
            captioner = self._augmentation.captioner
            describe_shards(store, run.dataset.train, run.models, captioner, shards)
        else:
            # One worker for all: it has the first images, or it would have had them.
            first = 0 in shards
            if first:
                self._augmentation.check_prompts(self._plan)
            generate_shards(
                store, self._plan, run.models, shards,
                format=store.spec["format"], size=store.spec.get("size"),
                look=self._augmentation.look if first else None,
            )  # fmt: skip
        if storage is not None:
            for shard in shards:
                try:
                    storage.put(shard)
                except FileNotFoundError:  # another worker of this node uploaded it
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
        """Download the captions, or wait until the shared folder shows them."""
        from sgid.cluster.storage import Storage
        from sgid.runtime.files import file_lock

        url, artifacts = self.job.cluster.storage, self.job.artifacts
        if url is not None:
            storage = Storage(url, captions)
            with file_lock(Path(artifacts) / "captions.lock"):
                if lost := [shard for shard in captions.missing() if not storage.get(shard)]:
                    raise ValueError(
                        f"cluster.storage={url} has lost captions (shards {lost} in "
                        f"{storage.folder}): the same command uploads them again"
                    )
                captions.finish()
        elif not wait_until_visible(lambda: captions.complete):
            raise ValueError(not_shared(captions))


@final
class AttemptCounter:
    """Count of attempts at each shard; an actor on the driver's node that outlives workers."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, shards: list[int]) -> int:
        """Count an attempt at these shards; the largest count among them."""
        self.begun.update(shards)
        return max(self.begun[shard] for shard in shards)


def wait_until_visible(there: Callable[[], bool]) -> bool:
    """Wait until a shared file system shows what another machine wrote; false after `PATIENCE`."""
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
    """Collect this package's warnings within the block: nobody reads a worker's own output."""
    messages: list[str] = []

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(self.format(record))

    handler, logger = Hearing(logging.WARNING), logging.getLogger("sgid")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def _user_message(error: BaseException, job: ShardJob) -> str | None:
    """Message for the user, or `None` for an error that only a developer can correct."""
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    message = fault(error, {"paths.artifacts": job.artifacts})
    return message or (str(error) if isinstance(error, ValueError | OSError) else None)


def _name() -> str:
    """Name of this worker: node and process."""
    import ray

    return f"{ray.get_runtime_context().get_node_id()}/{os.getpid()}"


CAPTIONS = "captions"


@dataclass(frozen=True)
class ShardJob:
    """Order for the shards of `kind` ("captions", or a method's name) that `method` needs.

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
        """Store of the worker to be filled.

        Raises:
            ValueError: if the worker would make other content than the driver asks for.
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
    """Lines `key=worker, not driver` for the values in which two specs differ."""
    if isinstance(worker, Mapping) and isinstance(driver, Mapping):
        for name in sorted({*worker, *driver}):
            yield from _differing(f"{key}.{name}", worker.get(name), driver.get(name))
    elif worker != driver:
        yield f"{key.removeprefix('.')}={worker}, not {driver}"
