"""Runs that are killed or stopped end as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.command import Place

LONGER = (
    "expansion=6", "store.shard_size=1", "backbone.steps=24", "trainer.validations=8",
    "backbone.batch_size=16",
)  # fmt: skip


def table(place: Place, kind: str) -> pa.Table:
    (store,) = (place.artifacts / kind).iterdir()
    return pa.concat_tables(pq.read_table(file) for file in sorted(store.glob("part-*.parquet")))


def until(process: subprocess.Popen[str], done) -> None:
    """Wait until `done()`, which has to be before the process ends."""
    limit = time.monotonic() + 600
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture(scope="module")
def undisturbed(own, tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    place.run(*own, *LONGER).good()
    return place


@pytest.mark.slow
def test_stopped_and_killed_in_every_stage(undisturbed, own, place):
    def stop(signal_number: int, pattern: str, *, more: int = 1) -> tuple[int, str]:
        """Start, and signal when `more` files of a pattern have come."""
        before = len(list(place.top.glob(pattern)))
        process = place.start(*own, *LONGER)
        until(process, lambda: len(list(place.top.glob(pattern))) >= before + more)
        process.send_signal(signal_number)
        _, err = process.communicate(timeout=600)
        return process.returncode, err

    code, err = stop(signal.SIGINT, "artifacts/described/*/part-*.parquet")
    assert code == 130 and "Stopped by SIGINT. What is done is kept; the same command" in err
    assert "Traceback" not in err
    assert not list(place.artifacts.glob("described/*/manifest.json"))

    code, _ = stop(signal.SIGKILL, "artifacts/generated/*/part-*.parquet", more=2)
    assert code == -signal.SIGKILL
    assert not list(place.artifacts.glob("generated/*/manifest.json"))
    # What a machine that loses its power may leave.
    (store,) = (place.artifacts / "generated").iterdir()
    whole, cut = sorted(store.glob("part-*.parquet"))[:2]
    cut.write_bytes(whole.read_bytes()[:-9])
    (store / ".part-00009.parquet.x1y2z3.tmp").write_bytes(whole.read_bytes())
    (store / "part-00010.parquet.tmp").write_bytes(whole.read_bytes())

    code, _ = stop(signal.SIGKILL, "results/*/checkpoints/last.ckpt")
    assert code == -signal.SIGKILL
    assert not list(place.results.glob("*/checkpoints/train.json"))
    saved = next(place.results.glob("*/checkpoints/last.ckpt")).stat().st_mtime_ns
    process = place.start(*own, *LONGER)
    until(
        process,
        lambda: next(place.results.glob("*/checkpoints/last.ckpt")).stat().st_mtime_ns > saved,
    )
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130 and "Stopped by SIGINT." in err and "Traceback" not in err

    place.run(*own, *LONGER).good()
    for kind in ("described", "generated"):
        assert table(place, kind).equals(table(undisturbed, kind)), kind
    ours, theirs = place.result(), undisturbed.result()
    for result in (ours, theirs):
        del result["metrics"]["train/seconds"]
    assert ours["metrics"] == theirs["metrics"]
    assert ours["fingerprint"] == theirs["fingerprint"]
