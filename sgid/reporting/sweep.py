"""What a sweep ends with: one table of all its runs, and the names of those that failed."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from sgid.reporting.comparison import comparison_table
from sgid.reporting.results import load_each
from sgid.reporting.table import Table
from sgid.reporting.wording import command
from sgid.store import write_atomic

# A job that finishes leaves the path of its result folder under this name in its own folder.
POINTER = "result.txt"


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its Hydra folder, what it was asked for, and where its result is."""

    folder: Path
    overrides: tuple[str, ...]
    result: Path | None


@final
class SweepTable(Callback):
    """Hydra callback: prints a multirun's table and writes it into the sweep's folder.

    Hydra leaves out `on_multirun_end` when a job has failed or the sweep was interrupted, just when
    one wants to know what there is; so the table is due at the end of the process at the latest.
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
        table = sweep_table(jobs)
        write_atomic(folder / "table.md", table.markdown().encode())
        write_atomic(folder / "table.tex", table.latex().encode())
        write_atomic(folder / "table.html", table.html().encode())
        console = Console()
        console.print(table.rich())
        console.print(f"{folder / 'table.md'}, .tex, .html", style="dim", highlight=False)


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, in the order in which they were numbered."""
    jobs = []
    for path in sorted(folder.glob("**/.hydra/hydra.yaml"), key=_number):
        job = path.parent.parent
        pointer = job / POINTER
        target = Path(pointer.read_text(encoding="utf-8").strip()) if pointer.is_file() else None
        jobs.append(Job(job, _overrides(path.parent / "overrides.yaml"), target))
    return jobs


def sweep_table(jobs: Sequence[Job]) -> Table:
    """The comparison of all that finished; what did not is listed with the line to run it again."""
    results = load_each(dict.fromkeys(job.result for job in jobs if job.result is not None))
    read = {result.folder for result in results}
    failed = [job for job in jobs if job.result not in read]
    table = comparison_table(results, f"{len(jobs) - len(failed)} of {len(jobs)} runs finished")
    notes = [f"Failed: {command(job.overrides)} (log in {job.folder})" for job in failed]
    return Table(table.title, table.headers, table.rows, (*notes, *table.notes))


def _number(path: Path) -> tuple[int, str]:
    """Hydra's job number, 10 after 9."""
    from omegaconf import OmegaConf

    number = OmegaConf.select(OmegaConf.load(path), "hydra.job.num")
    return (int(number) if number is not None else 0, str(path))


def _overrides(path: Path) -> tuple[str, ...]:
    from omegaconf import OmegaConf

    return tuple(map(str, OmegaConf.to_container(OmegaConf.load(path)) or ()))
