"""Jobs of a sweep: what each leaves behind; waiting for jobs in other processes, and ending them.

Hydra's submitit launcher leaves its jobs alone when the sweep is stopped, or when one of them has
died without a message; a sweep's table would then be made while others still run.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgid.runtime.slurm import SlurmQueue

# A job that finishes leaves the path of its result folder under this name in its own folder, or
# nothing but an empty file where its stage has no result.
POINTER = "result.txt"


# One that fails leaves why: the first line for the user, then where it arose.
ERROR = "error.txt"

QUEUED = "Still in SLURM's queue"


@dataclass
class Sweep:
    """A sweep of this process: its folder, its launcher, and the jobs that were there before it."""

    folder: Path
    launcher: str
    before: frozenset[str]
    stopped: bool = False

    @property
    def slurm(self) -> bool:
        return self.launcher.endswith("SlurmLauncher")

    @cached_property
    def queue(self) -> SlurmQueue:
        from sgid.runtime.slurm import watch_queue

        return watch_queue()

    @property
    def under_way(self) -> list[str]:
        """Its jobs that have not ended, by submitit's numbers."""
        names = [name for name in submitted(self.folder) if name not in self.before]
        return [name for name in names if self._runs(name)]

    def _runs(self, name: str) -> bool:
        if self.slurm:
            result = self.folder / ".submitit" / name / f"{name}_0_result.pkl"
            return not result.exists() and not self.queue.is_done(name)
        if self.launcher.endswith("LocalLauncher"):
            with suppress(ChildProcessError):  # one of a process before this one
                return os.waitpid(int(name), os.WNOHANG)[0] == 0
        return False


_sweeps: dict[Path, Sweep] = {}


def begin(folder: Path, launcher: str) -> None:
    """Register a sweep of this process, with the class of its launcher."""
    sweep = Sweep(folder.absolute(), launcher, frozenset(submitted(folder)))
    _sweeps[folder.absolute()] = sweep
    if sweep.slurm:
        with suppress(ImportError):  # submitit is missing: Hydra's own message comes later
            _ = sweep.queue


def stop() -> str:
    """End the jobs of this process's sweeps on this machine; a message about those elsewhere."""
    text = ""
    for sweep in _sweeps.values():
        jobs = sweep.under_way
        sweep.stopped = True
        if sweep.slurm and jobs:
            arrays = sorted({name.partition("_")[0] for name in jobs})
            text += f"\nThe jobs in SLURM's queue go on; `scancel {' '.join(arrays)}` ends them."
        elif sweep.launcher.endswith("LocalLauncher"):
            for name in jobs:
                with suppress(ProcessLookupError):  # submitit's own `cancel` sends this one
                    os.kill(int(name), signal.SIGINT)
            while sweep.under_way:
                time.sleep(0.2)
    return text


def wait(folder: Path) -> None:
    """Wait until all jobs of a sweep have ended, unless it was stopped."""
    sweep = _sweeps.get(folder.absolute())
    while sweep is not None and not sweep.stopped and sweep.under_way:
        time.sleep(2 if sweep.slurm else 0.2)


def outcome(folder: Path, name: str) -> str | None:
    """State of a job in SLURM, in words: that it goes on, or how it ended; `None` elsewhere."""
    sweep = _sweeps.get(folder.absolute())
    if sweep is None or not sweep.slurm:
        return None
    return QUEUED if name in sweep.under_way else sweep.queue.outcome(name)


def waiting(folder: Path) -> int:
    """Number of a sweep's jobs that go on in SLURM."""
    sweep = _sweeps.get(folder.absolute())
    return len(sweep.under_way) if sweep is not None and sweep.slurm else 0


def log_of(folder: Path, name: str) -> Path | None:
    """The file to which submitit's job `name` writes, if there is one."""
    path = folder / ".submitit" / name / f"{name}_0_log.out"
    return path if path.is_file() else None


def submitted(folder: Path) -> list[str]:
    """Numbers of submitit's jobs, which are names of their folders."""
    return [path.parent.name for path in folder.glob(".submitit/*/*_submitted.pkl")]
