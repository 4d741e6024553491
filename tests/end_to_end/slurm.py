"""As much of SLURM as submitit uses, on one machine: `python slurm.py sbatch SCRIPT`, and so on.

What is under way lies in the folder SLURM_HERE: a line per script in `scripts`, `<task>.pid` of the
running attempt, `<task>.attempts`, and `<task>.requeue` while another one is asked for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ARRAY = "1000"


def sbatch(script: str) -> None:
    """Start every task of an array in the background; the answer that submitit reads."""
    text = Path(script).read_text()
    (here() / "scripts").write_text(text)
    found = re.search(r"--array=0-(\d+)", text)
    assert found
    for task in range(int(found[1]) + 1):
        subprocess.Popen(
            [sys.executable, __file__, "node", script, str(task)],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    print(f"Submitted batch job {ARRAY}")


def node(script: str, task: str) -> None:
    """Run one task, and again as long as it is put back into the queue."""
    alone = {"NTASKS": "1", "JOB_NUM_NODES": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0"}
    ids = {"JOB_ID": str(2000 + int(task)), "ARRAY_JOB_ID": ARRAY, "ARRAY_TASK_ID": task}
    variables = {f"SLURM_{name}": value for name, value in {**alone, **ids}.items()}
    again = here() / f"{task}.requeue"
    while True:
        with (here() / f"{task}.attempts").open("a") as attempts:
            attempts.write("x")
        subprocess.run(["bash", script], env={**os.environ, **variables}, check=False)
        if not again.exists():
            return
        again.unlink()


def srun(*words: str) -> None:
    """Take the place of this process, with the output that was asked for."""
    task = os.environ["SLURM_ARRAY_TASK_ID"]
    start = words.index("--output")
    log = words[start + 1]
    for name, value in {"%A": ARRAY, "%a": task, "%t": "0"}.items():
        log = log.replace(name, value)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    (here() / f"{task}.pid").write_text(str(os.getpid()))
    command = words[start + 2 :]
    os.execv(command[0], command)


def scontrol(verb: str, job: str) -> None:
    assert verb == "requeue", verb
    (here() / f"{job.partition('_')[2]}.requeue").touch()


def squeue(*_: str) -> None:
    for path in here().glob("*.attempts"):
        print(f"{ARRAY}_{path.stem}|RUNNING|None")


def here() -> Path:
    return Path(os.environ["SLURM_HERE"])


def install(folder: Path) -> dict[str, str]:
    """Make the commands in `folder`; the environment in which they are found."""
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol", "squeue"):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        command.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_HERE": str(folder)}


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
