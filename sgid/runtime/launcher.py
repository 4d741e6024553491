"""The jobs of a sweep: what each leaves; waiting for those in processes of their own, ending them.

Hydra's submitit launcher leaves its jobs alone when the sweep is stopped, or when one of them has
died without a word; a sweep's table would then be made while others still run.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

# A job that finishes leaves the path of its result folder under this name in its own folder, or
# nothing but an empty file where its stage has no result.
POINTER = "result.txt"


# One that fails leaves why: the first line for people, then where it arose.
ERROR = "error.txt"

_sweeps: dict[Path, tuple[str, frozenset[str]]] = {}


def begin(sweep: Path, launcher: str) -> None:
    """A sweep of this process has begun, in a folder, with a launcher's class.

    Jobs that are there already are those of a command before this one.
    """
    _sweeps[sweep.absolute()] = launcher, frozenset(_jobs(sweep))


def stop() -> str:
    """End the jobs of this process's sweeps that run on this machine; what to say of the others."""
    text = ""
    for sweep, (launcher, before) in _sweeps.items():
        own = [name for name in _jobs(sweep) if name not in before]
        jobs = [name for name in own if _under_way(sweep, launcher, name)]
        if launcher.endswith("SlurmLauncher") and jobs:
            arrays = sorted({name.partition("_")[0] for name in jobs})
            text += f"\nThe jobs in SLURM's queue go on; `scancel {' '.join(arrays)}` ends them."
        elif launcher.endswith("LocalLauncher"):
            for name in jobs:
                with suppress(ProcessLookupError):  # submitit's own `cancel` sends this one
                    os.kill(int(name), signal.SIGINT)
            wait(sweep)
    return text


def wait(sweep: Path) -> None:
    """Until all jobs of a sweep that were handed to a launcher have ended."""
    launcher, before = _sweeps.get(sweep.absolute(), ("", frozenset()))
    own = [name for name in _jobs(sweep) if name not in before]
    while any(_under_way(sweep, launcher, name) for name in own):
        time.sleep(0.2 if launcher.endswith("LocalLauncher") else 2)


def _jobs(sweep: Path) -> list[str]:
    """The numbers of submitit's jobs, as their folders are called."""
    return [path.parent.name for path in sweep.glob(".submitit/*/*_submitted.pkl")]


def _under_way(sweep: Path, launcher: str, name: str) -> bool:
    if launcher.endswith("SlurmLauncher"):
        from submitit import SlurmJob

        return not SlurmJob(sweep / ".submitit" / "%j", name).done()
    if launcher.endswith("LocalLauncher"):
        with suppress(ChildProcessError):  # one of a process before this one
            return os.waitpid(int(name), os.WNOHANG)[0] == 0
    return False
