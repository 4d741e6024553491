"""Sweeps on a real SLURM of one node, where it is installed (`make cluster-tests`); its queue."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.data.writers import write_folder
from tests.end_to_end.command import SHORT, Place

pytest.importorskip("submitit")
from sgid.runtime import slurm  # noqa: E402  # needs submitit

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
LAUNCHER = (
    "-m", "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=0",
    "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2",
)  # fmt: skip
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={top}/munge,cred_expire=60
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmdPort={next}
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool
SlurmctldPidFile={top}/slurmctld.pid
SlurmdPidFile={top}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
KillWait=5
ReturnToService=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=6000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def until(done: Callable[[], object], seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` works: one node without accounting, on the loopback."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=SBIN) is None]:
        pytest.skip(f"no SLURM here ({', '.join(missing)}): apt-get install slurm-wlm munge")
    top = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (top / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    host = socket.gethostname().partition(".")[0]
    text = CONFIG.format(top=top, user=user, host=host, port=port, next=port + 1)
    (top / "slurm.conf").write_text(text)
    (top / "cgroup.conf").write_text("CgroupAutomount=no\n")
    key = top / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = {"SLURM_CONF": str(top / "slurm.conf"), "PATH": SBIN}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={top}/munge"]
    munge += [f"--pid-file={top}/m.pid", f"--log-file={top}/m.log", f"--seed-file={top}/seed"]
    started = []
    try:
        for command in (munge, ["slurmctld", "-D", "-i"], ["slurmd", "-D"]):
            with (top / f"{command[0]}.out").open("w") as out:
                every = {**os.environ, **environment}
                started.append(
                    subprocess.Popen(command, env=every, stdout=out, stderr=out, cwd=top)
                )
            if command is munge:
                until((top / "munge").exists, 30)

        def works() -> bool:
            command = ["srun", "--immediate=5", "true"]
            return not subprocess.run(
                command, env=every, capture_output=True, check=False
            ).returncode

        until(works, 120)
        yield environment
    finally:
        for one in reversed(started):
            one.terminate()
            one.wait(30)


def ask(cluster: dict[str, str], *command: str) -> str:
    return subprocess.check_output(command, env={**os.environ, **cluster}, text=True)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_cancelled_and_preempted_ends(cluster, tmp_path):
    """Ctrl-C leaves the jobs; without accounting an ended job is seen; the same command goes on."""
    place = Place(tmp_path)
    images = write_folder(tmp_path / "images", {"bag": 8, "coat": 8}, size=32)
    own = ("dataset=folder", f"dataset.root={images}", "models=tiny", "backbone=small_resnet")
    sweep = (*own, *SHORT, *LAUNCHER, "seed=0,1")
    longer = (*sweep, "backbone.steps=20000", "trainer.validations=40")

    def start(*given: str) -> tuple[subprocess.Popen[str], str]:
        process = place.start(*given, **cluster, SLURM_CPU_BIND="quiet,mask_cpu:0x100000")
        count = lambda: ask(cluster, "squeue", "-h", "-t", "R").count("\n")  # noqa: E731
        until(lambda: process.poll() is not None or count() == 2)
        assert process.poll() is None, process.communicate()
        array = ask(cluster, "squeue", "-h", "-o", "%F").split()[0]
        begun = lambda: [path.read_text() for path in place.top.glob("hydra/*/.hydra/hydra.yaml")]  # noqa: E731
        until(lambda: sum(f"id: {array}_" in text or f"'{array}_" in text for text in begun()) == 2)
        return process, array

    process, array = start(*longer)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130 and "Traceback" not in err, out + err
    assert f"`scancel {array}` ends them" in err
    assert "0 of 2 runs finished, 2 in the queue" in out and "Still in SLURM's queue" in out
    ask(cluster, "scancel", array)
    until(lambda: not ask(cluster, "squeue", "-h"))

    process, array = start(*longer)
    ask(cluster, "scancel", f"{array}_1")
    until(lambda: ask(cluster, "squeue", "-h", "-t", "R").count("\n") == 1)
    ask(cluster, "sbatch", "-p", "high", "-c", "2", "-o", "/dev/null", "--wrap", "sleep 5")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1 and "Traceback" not in err, out + err
    text = " ".join(out.split())
    assert "Cancelled. Again: python run.py" in text, text + err
    assert "Preempted, and not put back into the queue. Again:" in text, text + err
    assert "_0_log.out" in text and "0 of 2 runs finished, 2 stopped" in text

    outcome = place.spawn(*sweep, **cluster)
    assert outcome.code == 0 and "2 of 2 runs finished" in outcome.out, outcome.text


@pytest.mark.slow
def test_a_request_that_no_node_can_meet_is_named(cluster, tmp_path):
    place = Place(tmp_path)
    outcome = place.spawn("models=tiny", *LAUNCHER, "hydra.launcher.mem_gb=9000", **cluster)
    assert outcome.code == 1 and "hydra.launcher.mem_gb" in outcome.err, outcome.text
    large = ("hydra.launcher.cpus_per_task=8", "hydra.launcher.mem_gb=32")
    process = place.start("models=tiny", *LAUNCHER, *large, **cluster)
    until(lambda: ask(cluster, "squeue", "-h") or process.poll() is not None)
    time.sleep(5)
    ask(cluster, "scancel", "--me")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1 and "Traceback" not in err, out + err
    assert "waits for" in out + err and "lower hydra.launcher.cpus_per_task" in out + err, out + err
    assert "A job ended without a result: Cancelled" in err, err


@pytest.fixture
def squeue(tmp_path, monkeypatch) -> Callable[[str, str, int], slurm.SlurmQueue]:
    """A queue whose `squeue` prints these lines, and ends with this code."""

    def answer(lines: str, error: str = "", code: int = 0) -> slurm.SlurmQueue:
        program = tmp_path / "squeue"
        program.write_text(f"#!/bin/sh\nprintf '{lines}'\nprintf '{error}' >&2\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        queue = slurm.SlurmQueue()
        for job in ("7_0", "7_1"):
            queue.register_job(job)
        return queue

    return answer


@pytest.mark.parametrize(
    ("lines", "error", "code", "done", "outcomes"),
    [
        ("7_0|RUNNING|None\n7_1|PENDING|Priority\n", "", 0, [False, False], [None, None]),
        ("7_0|OUT_OF_MEMORY|None\n7_1|CANCELLED|None\n", "", 0, [True, True],
         ["Out of memory: raise hydra.launcher.mem_gb", "Cancelled"]),
        ("7_0|FAILED|JobLaunchFailure\n7_1|TIMEOUT|None\n", "", 0, [True, True],
         ["Failed or killed (JobLaunchFailure)", "Out of time: raise hydra.launcher.timeout_min"]),
        ("", "slurm_load_jobs error: Invalid job id specified", 1, [True, True], [None, None]),
        ("", "Unable to contact slurm controller", 1, [False, False], [None, None]),
    ],
)  # fmt: skip
def test_states_of_the_queue(squeue, lines, error, code, done, outcomes):
    queue = squeue(lines, error, code)
    assert [queue.is_done(job) for job in ("7_0", "7_1")] == done
    assert [queue.outcome(job) for job in ("7_0", "7_1")] == outcomes


def test_why_a_job_waits_is_said_once(squeue, caplog):
    queue = squeue("7_0|PENDING|PartitionConfig\n7_1|PENDING|PartitionConfig\n")
    for _ in range(2):
        queue.get_info("7_0", "force")
        time.sleep(0.01)
    (record,) = caplog.records
    assert "job 7 waits for PartitionConfig" in record.getMessage()
    assert "hydra.launcher.cpus_per_task" in record.getMessage()
