"""Sweeps whose runs have processes of their own: submitit's on this machine, and SLURM's."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sgid.cli import Job
from sgid.models.loader import Loaded
from tests.end_to_end import slurm
from tests.end_to_end.command import Place

pytest.importorskip("submitit")
LOCAL = ("-m", "hydra/launcher=submitit_local")
LONGER = ("expansion=6", "store.shard_size=1", "backbone.steps=24", "trainer.validations=8")


def until(done: Callable[[], object], process: subprocess.Popen[str], seconds: float = 600) -> None:
    limit = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def controllers(place: Place) -> list[int]:
    """submitit's processes on this machine, one for each job."""
    return [int(path.name) for path in (place.top / "hydra" / ".submitit").glob("[0-9]*")]


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.slow
def test_each_run_in_a_process_of_its_own(place, own):
    outcome = place.spawn(*own, *LOCAL, "noise_rate=0.5,2")
    assert outcome.code == 1, outcome.text
    assert outcome.out.count("1 of 2 runs finished, 1 failed") == 2  # above the table, and last
    table = (place.top / "hydra" / "table.md").read_text().replace("\\", "")
    assert "Failed: noise_rate=2.0: must be above 0, at most 1. Again: python run.py" in table
    assert "Traceback" not in outcome.text


def begun(place) -> int:
    """Runs whose folder says what they were asked for; Hydra writes that file last."""
    return sum(path.stat().st_size > 0 for path in place.top.glob("hydra/*/.hydra/overrides.yaml"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds the processes in /proc")
def test_a_run_that_is_killed_is_told_and_the_others_end_first(place, own):
    process = place.start(*own, *LONGER, *LOCAL, "noise_rate=0.3,0.5")
    until(lambda: begun(place) == 2, process)
    (killed,) = children(controllers(place)[0])
    os.kill(killed, signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, out + err
    assert "1 of 2 runs finished, 1 stopped" in out, out + err
    assert "Again: python run.py" in " ".join(out.split())
    assert "A job ended without a result" in err and "Traceback" not in err


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds the processes in /proc")
def test_a_sweep_that_is_stopped_stops_its_runs(place, own):
    process = place.start(*own, *LONGER, *LOCAL, "noise_rate=0.3,0.5")
    until(lambda: begun(place) == 2, process)
    pids = [*controllers(place), *(pid for one in controllers(place) for pid in children(one))]
    assert len(pids) == 4
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 143, out + err
    assert "0 of 2 runs finished, 2 stopped" in out
    assert all(map(ended, pids))


@pytest.mark.slow
def test_slurm_shares_a_store_and_goes_on_after_a_time_limit(place, own):
    environment = slurm.install(place.top / "slurm")
    process = place.start(
        *own, *LONGER, "-m", "hydra/launcher=slurm", "backbone.steps=24,25", **environment
    )
    until(lambda: list(place.artifacts.glob("generated/*/part-*.parquet")), process)
    os.kill(int((place.top / "slurm" / "0.pid").read_text()), signal.SIGUSR2)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    assert "2 of 2 runs finished" in out
    assert (place.top / "slurm" / "0.attempts").read_text() == "xx"
    assert (place.top / "slurm" / "1.attempts").read_text() == "x"
    assert len(list(place.artifacts.glob("generated/*/manifest.json"))) == 1
    assert len(list(place.results.glob("*/result.json"))) == 2
    script = (place.top / "slurm" / "scripts").read_text()
    for flag in (
        "array=0-1%2", "gpus-per-node=1", "cpus-per-task=8", "mem=32GB", "time=240",
        "signal=USR2@120",
    ):  # fmt: skip
        assert f"#SBATCH --{flag}\n" in script, script


def test_slurm_without_slurm_or_its_plugin(place, own, monkeypatch):
    outcome = place.run(*own, "-m", "hydra/launcher=slurm", "seed=0,1", PATH="/nowhere")
    assert outcome.code == 1 and 'Could not detect "srun"' in outcome.err
    assert "Traceback" not in outcome.text
    from hydra.core.config_store import ConfigStore

    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, "submitit_slurm.yaml")
    outcome = place.run(*own, "-m", "hydra/launcher=slurm")
    assert outcome.code == 1 and "pip install 'sgid[cluster]'" in outcome.err


def test_models_in_memory_do_not_travel():
    job = Job()
    job._loaded = Loaded()
    copy = pickle.loads(pickle.dumps(job))
    assert isinstance(copy, Job) and copy._loaded is None
