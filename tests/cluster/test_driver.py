"""Workers make what one process makes, whoever of them dies: nothing lost, nothing double."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.cluster import light
from tests.cluster.conftest import at_work, files, made, planned

LIGHT = ("aug=img2img_label", *light.OPTIONS)
"""Of no model, without captions: workers are there sooner, and work as long as they are held."""


def meanwhile(action: Callable[[threading.Event], None]) -> Callable[[], None]:
    """Begin `action` beside this thread; what it returns ends it, and raises its errors."""
    over, errors = threading.Event(), []

    def run() -> None:
        try:
            action(over)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        over.set()
        thread.join(600)
        assert not thread.is_alive()
        if errors:
            raise errors[0]

    return end


def until(found: Callable[[], object], over: threading.Event) -> None:
    """Wait for something, not for ever and not after the work is over."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        if found():
            return
        assert not over.is_set(), "the work was over before"
        time.sleep(0.1)
    raise AssertionError("it never came")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("aug=sgid", *light.OPTIONS, "cluster.min_workers=2"),
        ("aug=sgid",),  # one worker at first: the pool grows
    ],
    ids=["light", "bundled"],
)
def test_two_nodes_make_what_one_process_makes(nodes, alone, tmp_path, options):
    run, augmentation = planned(tmp_path, *options, *nodes.options)
    said = made(run, augmentation)
    assert "captions: 5 shards by 2 workers on 2 nodes" in said
    assert files(augmentation) == alone(*options)


@pytest.mark.slow
def test_a_worker_and_then_a_node_are_lost_in_mid_work(nodes, alone, hold, tmp_path):
    run, augmentation = planned(tmp_path, *LIGHT, *nodes.options, "cluster.min_workers=2")
    folder = augmentation.generated.folder
    kept, lost = nodes.working
    killed = []

    def kill(over: threading.Event) -> None:
        try:
            until(lambda: all(at_work(folder, nodes.raylet(node)) for node in (kept, lost)), over)
            (process,) = set(at_work(folder, nodes.raylet(kept)).values())
            os.kill(process, signal.SIGKILL)
            # Begun again, by the worker that was started in its place.
            until(lambda: set(at_work(folder, nodes.raylet(kept)).values()) - {process}, over)
            assert at_work(folder, nodes.raylet(lost)) and not list(folder.glob("part-*"))
            nodes.kill(lost)
            killed.extend([process, lost])
        finally:  # else the work would wait for ever
            hold.unlink(missing_ok=True)

    end = meanwhile(kill)
    try:
        made(run, augmentation)
    finally:
        end()
        nodes.add()
    assert len(killed) == 2
    assert files(augmentation) == alone(*LIGHT)


@pytest.mark.slow
def test_workers_that_die_each_time_are_told_of(nodes, hold, tmp_path):
    run, augmentation = planned(tmp_path, *LIGHT, *nodes.options, "cluster.attempts=1")
    folder = augmentation.generated.folder

    def kill(over: threading.Event) -> None:
        limit = time.monotonic() + 120  # then they may make it, and this fails
        while not over.wait(0.1) and time.monotonic() < limit:
            for process in at_work(folder).values():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        hold.unlink()

    end = meanwhile(kill)
    try:
        with pytest.raises(
            ChildProcessError, match=r"Workers died 1 times at shard .*cluster\.attempts=1"
        ):
            made(run, augmentation)
    finally:
        end()


@pytest.mark.slow
def test_by_a_storage_and_what_a_killed_driver_left_there(nodes, alone, tmp_path):
    captioned = ("aug=sgid", *light.OPTIONS)
    storage = f"cluster.storage=file://{tmp_path / 'bucket'}"
    first, second = (planned(tmp_path / name, *captioned, *nodes.options, storage) for name in "ab")
    made(*first)
    assert files(first[1]) == alone(*captioned)
    # A driver elsewhere finds all but what was damaged, and has that made again.
    generated = first[1].generated
    there = tmp_path / "bucket" / "generated" / generated.folder.name / generated.part(3).name
    damaged = bytearray(there.read_bytes())
    damaged[100] ^= 1
    there.write_bytes(damaged)
    said = made(*second)
    assert "1 shards" in said and "damaged" in said
    assert "sgid: 1 shards by 1 workers" in said and "captions: " not in said
    assert files(second[1]) == alone(*captioned)
    assert there.read_bytes() == generated.part(3).read_bytes()
    assert not list((tmp_path / "b" / "cluster").rglob("generated/**/part-*")), "left on the node"


def test_nothing_is_asked_of_a_cluster_where_all_is_there(alone, tmp_path):
    options = ("aug=sgid", "cluster.address=127.0.0.1:1", f"cluster.storage={tmp_path / 'bucket'}")
    from sgid.cluster.storage import Storage

    run, augmentation = planned(tmp_path / "a", *options)
    for kind, store in augmentation.stores.items():
        for shard in range(store.shards):
            store.folder.mkdir(parents=True, exist_ok=True)
            store.part(shard).write_bytes(alone("aug=sgid")[f"{kind}/{store.part(shard).name}"])
            Storage(str(tmp_path / "bucket"), store).put(shard)
    run, augmentation = planned(tmp_path / "b", *options)
    assert made(run, augmentation) == ""
    assert files(augmentation) == alone("aug=sgid")


def test_what_a_worker_lacks_is_said_in_a_few_lines(nodes, tmp_path):
    import shutil

    from tests.conftest import MODELS

    weights = shutil.copytree(MODELS / "sd", tmp_path / "sd")
    run, augmentation = planned(
        tmp_path, *LIGHT, *nodes.options, f"models.generator.weights.path={weights}"
    )
    shutil.rmtree(weights)
    with pytest.raises(ValueError, match="models.generator.weights.path") as told:
        made(run, augmentation)
    assert "a worker on node" in str(told.value) and "Traceback" not in str(told.value)
    assert len(str(told.value).splitlines()) < 10


def test_a_worker_that_would_make_something_else_says_so(nodes, tmp_path):
    run, augmentation = planned(tmp_path, *LIGHT, *nodes.options)
    assert "DPMSolver" in str(augmentation.generated.spec)  # which is then fixed
    run.config.models.generator.scheduler = "DDIMScheduler"  # as if the nodes had another code
    with pytest.raises(ValueError, match="engine.*scheduler=DDIM.*, not DPMSolver"):
        made(run, augmentation)


def test_a_cluster_that_is_not_there_is_named(rays_environment, tmp_path):
    run, augmentation = planned(tmp_path, *LIGHT, "cluster.address=127.0.0.1:1")
    with pytest.raises(ValueError, match=r"cluster\.address=127\.0\.0\.1:1"):
        made(run, augmentation)


@pytest.mark.slow
def test_one_worker_checks_the_prompts_and_looks_at_the_first_images(nodes, tmp_path, caplog):
    options = (*LIGHT, *nodes.options, "store.shard_size=40")
    long = f"aug.img2img_label.prompt='a {{label}} {'and a hat ' * 40}'"
    with pytest.raises(ValueError, match=r"10 of 10 prompts are longer[^$]*a worker on node"):
        made(*planned(tmp_path, *options, long, "dataset.strict=true"))
    made(*planned(tmp_path, *options))
    assert caplog.text.count("The generated images lie") == 1
