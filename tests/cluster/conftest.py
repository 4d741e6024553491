"""Two simulated nodes of one core each, and what one process alone makes of the same options."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sgid.cluster.driver import LOOPBACK, QUIET, TOKEN, temporary_folder
from sgid.config.compose import compose
from sgid.stages.augment import Augmentation
from sgid.stages.run import Run, prepare
from tests.cluster.light import HOLD

OPTIONS = (
    *("dataset=fashion", "dataset.shots=4", "models=tiny", "trainer.device=cpu"),
    *("steps=4", "expansion=2", "store.shard_size=8", "cluster=ray"),
)


@dataclass
class Nodes:
    """A cluster whose head, where the driver is, does no work; and its nodes that do."""

    cluster: Any
    working: list[Any] = field(default_factory=list)

    @property
    def options(self) -> tuple[str, ...]:
        return f"cluster.address={self.cluster.address}", "cluster.max_workers=2"

    def add(self) -> None:
        self.working.append(self.cluster.add_node(num_cpus=1))

    @staticmethod
    def raylet(node: Any) -> int:
        """The process that is the parent of all workers of a node."""
        return node.all_processes["raylet"][0].process.pid

    def kill(self, node: Any) -> None:
        self.working.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="session")
def rays_environment(tmp_path_factory) -> Iterator[None]:
    """What a run sets for a Ray of its own, before anything imports Ray; and where to hold it."""
    # A node that refuses connections is given up after five of these (3000 ms by default).
    own = {
        "RAY_health_check_period_ms": "500",
        TOKEN: "5" * 64,
        HOLD: str(tmp_path_factory.mktemp("hold") / "hold"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, **LOOPBACK, **own}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def hold(rays_environment) -> Iterator[Path]:
    """Workers with light models wait before each image, until this file is removed."""
    path = Path(os.environ[HOLD])
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def nodes(rays_environment) -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)  # each node of Ray's sets its own
    with (
        tempfile.TemporaryDirectory(prefix="sgid-", dir=temporary_folder()) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Not `temp_dir`: `Cluster` writes its address to the default one, which may not be there,
        # and where `cluster.address=auto` of whoever works here would find it.
        patch.setenv("RAY_TMPDIR", folder)
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            nodes = Nodes(cluster)
            nodes.add()
            nodes.add()
            yield nodes
        finally:
            cluster.shutdown()
            signal.signal(signal.SIGTERM, before)


def planned(artifacts: Path, *options: str) -> tuple[Run, Augmentation]:
    """A run of these options with one method, of which nothing is made."""
    config = compose([*OPTIONS, f"paths.artifacts={artifacts}", *options])
    run = prepare(config, {}, [])
    (augmentation,) = run.augmentations
    return run, augmentation


def made(run: Run, augmentation: Augmentation) -> str:
    """Have it made on the cluster; what was said."""
    from sgid.cluster.driver import make_stores

    console = Console(soft_wrap=True)
    with console.capture() as said:
        make_stores(run, augmentation, console)
    return said.get()


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> Callable[..., dict[str, bytes]]:
    """`alone("aug=...")`: file -> bytes, of all that one process makes without Ray."""
    import torch

    known: dict[tuple[str, ...], dict[str, bytes]] = {}

    def make_alone(*options: str) -> dict[str, bytes]:
        if options not in known:
            run, augmentation = planned(tmp_path_factory.mktemp("alone"), *options)
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # as cluster.cpus=1 has it
            try:
                augmentation.make()
            finally:
                torch.set_num_threads(threads)
            known[options] = files(augmentation)
        return known[options]

    return make_alone


def files(augmentation: Augmentation) -> dict[str, bytes]:
    """Name -> bytes of every file of its stores, but for the locks of those who made them."""
    return {
        f"{kind}/{path.name}": path.read_bytes()
        for kind, store in augmentation.stores.items()
        for path in sorted(store.folder.iterdir())
        if not path.name.endswith(".lock")
    }


def parent(process: int) -> int:
    """The process that started it."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def at_work(folder: Path, below: int | None = None) -> dict[int, int]:
    """Shard -> process, of those that a process makes now (of all, or of the children of one)."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            above = parent(int(process.name))
            opened = [os.readlink(one) for one in (process / "fd").iterdir()]
        except OSError:  # it has ended, or is not ours
            continue
        if int(process.name) == os.getpid() or below not in (None, above):
            continue
        for name in map(Path, opened):
            if name.parent == folder and name.suffix == ".lock" and ".part-" in name.name:
                found[int(name.stem.removeprefix(".part-"))] = int(process.name)
    return found
