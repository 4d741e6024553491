"""SLURM's queue, asked by `squeue`: states of a sweep's jobs, with or without accounting."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from typing import final

from submitit import SlurmJob
from submitit.slurm.slurm import SlurmInfoWatcher

log = logging.getLogger(__name__)

LONGEST = 60
"""Seconds between two looks at the queue, at most; they begin with two."""

ENDED = {
    "CANCELLED": "Cancelled",
    "OUT_OF_MEMORY": "Out of memory: raise hydra.launcher.mem_gb",
    "TIMEOUT": "Out of time: raise hydra.launcher.timeout_min",
    "DEADLINE": "Out of time: its deadline has passed",
    "PREEMPTED": "Preempted, and not put back into the queue",
    "NODE_FAIL": "Its node failed",
    "BOOT_FAIL": "Its node did not start",
    "FAILED": "Failed or killed",
    "REVOKED": "Revoked by the cluster",
    "COMPLETED": "Ended without a result",
}
"""States in which a job does not come back, in words."""

ORDINARY = {"None", "Priority", "Resources", "BeginTime", "Dependency", "JobArrayTaskLimit"}
"""Reasons for which a job waits that pass by themselves."""

HERITAGE = ("SLURM_CPU_BIND", "SLURM_MEM_BIND")
"""Beginnings of variables of `srun`, with which a job that inherits them cannot start."""


@final
class SlurmQueue(SlurmInfoWatcher):
    """States of jobs from `squeue` instead of `sacct`, which needs accounting.

    A job has ended when its state is one of `ENDED`, or when it is no longer listed.
    """

    def __init__(self) -> None:
        super().__init__(delay_s=LONGEST)
        self._warned: set[tuple[str, str]] = set()

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        if job_id not in self._finished:
            self.get_info(job_id, mode)
        return job_id in self._finished

    def outcome(self, job_id: str) -> str | None:
        """End of a job, in words; `None` while it has not, or if that is not known."""
        if not self.is_done(job_id, "cache"):
            return None
        info = self.get_info(job_id, "cache")
        words = ENDED.get(info.get("State", ""))
        return f"{words} ({info['Reason']})" if words and info.get("State") == "FAILED" else words

    def update(self) -> None:
        """Ask for all registered jobs that have not ended."""
        waiting = self._registered - self._finished
        arrays = sorted({job.partition("_")[0] for job in waiting})
        if not arrays:
            return
        rows = self._rows(arrays)
        self._num_calls += 1
        self._last_status_check = time.time()
        if rows is None:
            return
        for job in waiting:
            state, reason = rows.get(job, ("", ""))
            if state:
                self._info_dict[job] = {"JobID": job, "State": state, "Reason": reason}
            if not state or state in ENDED:
                self._finished.add(job)
            elif state == "PENDING" and reason not in ORDINARY:
                self._warn(job.partition("_")[0], reason)

    def _rows(self, arrays: list[str]) -> dict[str, tuple[str, str]] | None:
        """State and reason by job; `None` if SLURM does not answer."""
        command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        try:
            answer = subprocess.run(
                [*command, f"--jobs={','.join(arrays)}"],
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._warn("squeue", str(error))
            return None
        # A job that ended some minutes ago (MinJobAge) is unknown.
        if answer.returncode and "Invalid job id" not in answer.stderr:
            self._warn("squeue", answer.stderr.strip())
            return None
        lines = (line.strip().split("|", 2) for line in answer.stdout.splitlines())
        return {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}

    def _warn(self, what: str, reason: str) -> None:
        if (what, reason) in self._warned:
            return
        self._warned.add((what, reason))
        if what == "squeue":
            log.warning("squeue does not answer (%s): trying again", reason)
        else:
            log.warning(
                "SLURM: job %s waits for %s. If that does not pass, it asks for what no node has: "
                "`scancel %s`, and lower hydra.launcher.cpus_per_task, mem_gb or gpus_per_node, "
                "or give another hydra.launcher.partition",
                what, reason, what,
            )  # fmt: skip


def watch_queue() -> SlurmQueue:
    """Have submitit ask the queue, and take what `srun` left out of the jobs' environment."""
    queue = SlurmQueue()
    SlurmJob.watcher = queue
    for name in [name for name in os.environ if name.startswith(HERITAGE)]:
        del os.environ[name]
    return queue
