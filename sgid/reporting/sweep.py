"""What a sweep ends with: tables of all its runs, and the names of those that failed."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from sgid.files import write_atomic
from sgid.reporting.comparison import comparison_table
from sgid.reporting.evaluation import evaluations_table, load_evaluation
from sgid.reporting.matrix import matrix_table
from sgid.reporting.results import load_each
from sgid.reporting.table import Table
from sgid.reporting.wording import command

# A job that finishes leaves the path of its result folder under this name in its own folder, or
# nothing but an empty file where its stage has no result.
POINTER = "result.txt"


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its Hydra folder, what it was asked for, and where its result is."""

    folder: Path
    overrides: tuple[str, ...]
    finished: bool
    result: Path | None


@final
class SweepTable(Callback):
    """Hydra callback: prints a multirun's tables and writes them into the sweep's folder.

    `table` has a row per arm; `matrix`, with more than one dataset or backbone, is the compact one
    that papers print. Hydra leaves out `on_multirun_end` when a job has failed or the sweep was
    interrupted, just when one wants to know what there is; so the tables are due at the end of the
    process at the latest.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.register(self._finish, config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.unregister(self._finish)
        self._finish(config)

    def _finish(self, config: DictConfig) -> None:
        from rich.console import Console

        folder = Path(config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        if not jobs:
            return
        console = Console()
        for name, table in sweep_tables(jobs).items():
            write_atomic(folder / f"{name}.md", table.markdown().encode())
            write_atomic(folder / f"{name}.tex", table.latex().encode())
            write_atomic(folder / f"{name}.html", table.html().encode())
            console.print(table.rich())
            path = folder / f"{name}.md"
            console.print(f"{path}, .tex, .html", style="dim", markup=False, highlight=False)


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, in the order in which they were numbered."""
    jobs = []
    for path in sorted(folder.glob("**/.hydra/hydra.yaml"), key=_number):
        job = path.parent.parent
        pointer = job / POINTER
        finished = pointer.is_file()
        target = pointer.read_text(encoding="utf-8").strip() if finished else ""
        overrides = _overrides(path.parent / "overrides.yaml")
        jobs.append(Job(job, overrides, finished, Path(target) if target else None))
    return jobs


def sweep_tables(jobs: Sequence[Job]) -> dict[str, Table]:
    """By file name: the comparison of all that finished, and the matrix where there is one.

    Images that were measured without a run have a table of their own, `measures`.
    What did not finish is listed beneath the comparison with the line to run it again.
    """
    folders = list(dict.fromkeys(job.result for job in jobs if job.result is not None))
    evaluations = {path: told for path in folders if (told := load_evaluation(path)) is not None}
    results = load_each(path for path in folders if path not in evaluations)
    read = {result.folder for result in results} | set(evaluations)
    failed = [
        job
        for job in jobs
        if not job.finished or (job.result is not None and job.result not in read)
    ]
    measured = {"measures": evaluations_table([*evaluations.values()])} if evaluations else {}
    if not results and not failed:
        return measured
    table = comparison_table(results, f"{len(jobs) - len(failed)} of {len(jobs)} runs finished")
    notes = [f"Failed: {command(job.overrides)} (log in {job.folder})" for job in failed]
    tables = {"table": replace(table, notes=(*notes, *table.notes)), **measured}
    matrix = matrix_table(results)
    return tables if matrix is None else {**tables, "matrix": matrix}


def _number(path: Path) -> tuple[int, str]:
    """Hydra's job number, 10 after 9."""
    from omegaconf import OmegaConf

    number = OmegaConf.select(OmegaConf.load(path), "hydra.job.num")
    return (int(number) if number is not None else 0, str(path))


def _overrides(path: Path) -> tuple[str, ...]:
    from omegaconf import OmegaConf

    return tuple(map(str, OmegaConf.to_container(OmegaConf.load(path)) or ()))
