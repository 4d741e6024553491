"""The end of a sweep: tables of all its runs, and the reasons of those that failed."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from sgid.data.listing import printable
from sgid.reporting.comparison import comparison_table, matrix_table
from sgid.reporting.format import command
from sgid.reporting.image_metrics import evaluations_table, load_evaluation
from sgid.reporting.results import load_each, load_result
from sgid.reporting.table import Table
from sgid.runtime import launcher
from sgid.runtime.files import write_atomic
from sgid.runtime.launcher import ERROR, POINTER
from sgid.runtime.signals import Stopped, stop_on_signals


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its Hydra folder, its overrides, and the folder of its result.

    `reason` is why it failed, for people. One that neither finished nor failed was stopped or
    killed, or still runs; `state` says which, where SLURM knows.
    """

    folder: Path
    overrides: tuple[str, ...]
    finished: bool
    result: Path | None
    reason: str | None = None
    state: str | None = None
    log: Path | None = None

    @property
    def note(self) -> str:
        """The end of a run without a result, and the command that runs it again."""
        what = self.state or "Stopped or killed"
        what = what if self.reason is None else f"Failed: {self.reason}"
        again = "Run" if what == launcher.QUEUED else "Again"
        return f"{what}. {again}: {command(self.overrides)} (log in {self.log or self.folder})"


@final
class SweepTable(Callback):
    """Hydra callback: prints a multirun's tables and writes them into the sweep's folder.

    `table` has a row per arm; `matrix`, with more than one dataset or backbone, is the compact one
    that papers print. Hydra leaves out `on_multirun_end` when a job has failed or the sweep was
    interrupted, just when one wants to know what there is; so the tables are due at the end of the
    process at the latest. Without `tables` it only waits for jobs that are still running then.
    """

    def __init__(self, tables: bool = True) -> None:
        self.tables = tables

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        launcher.begin(Path(config.hydra.sweep.dir), config.hydra.launcher._target_)
        atexit.register(self._finish, config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.unregister(self._finish)
        self._finish(config)

    def _finish(self, config: DictConfig) -> None:
        from rich.console import Console

        folder = Path(config.hydra.sweep.dir)
        try:
            with stop_on_signals():
                launcher.wait(folder)
        except Stopped:
            print(launcher.stop(), file=sys.stderr)
        if not self.tables:
            return
        jobs, runs = read_jobs(folder), asked_runs(folder)
        if runs:  # not those of another sweep that had this folder
            jobs = [job for job in jobs if job.overrides in runs]
        asked, queued = len(runs), launcher.waiting(folder)
        if not jobs and not asked:
            return
        console = Console(soft_wrap=True)
        for name, table in sweep_tables(jobs, asked, queued).items():
            write_atomic(folder / f"{name}.md", table.markdown().encode())
            write_atomic(folder / f"{name}.tex", table.latex().encode())
            write_atomic(folder / f"{name}.html", table.html().encode())
            table.print(console)
            path = folder / f"{name}.md"
            console.print(f"{path}, .tex, .html", style="dim", markup=False, highlight=False)
        if not all(job.finished for job in jobs) or asked > len(jobs):
            said = f"{outcome(jobs, asked, queued)}. The same command runs what is left"
            console.print(said, style="yellow", markup=False, highlight=False)


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, in the order in which they were numbered."""
    jobs = []
    for path in sorted(folder.glob("**/.hydra/hydra.yaml"), key=_number):
        job = path.parent.parent
        pointer, error = job / POINTER, job / ERROR
        finished = pointer.is_file()
        name = _job_id(path)
        target = pointer.read_text(encoding="utf-8").strip() if finished else ""
        result = Path(target) if target else None
        reason = _first_line(error.read_text(encoding="utf-8")) if error.is_file() else None
        if result is not None and (reason := _unreadable(result)) is not None:
            finished, result = False, None
        overrides = _overrides(path.parent / "overrides.yaml")
        state = None if finished else launcher.outcome(folder, name)
        log = launcher.log_of(folder, name)
        jobs.append(Job(job, overrides, finished, result, reason, state, log))
    return jobs


def asked_runs(folder: Path) -> list[tuple[str, ...]]:
    """The overrides of each run of a sweep; empty where only its sweeper knows them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    written = folder / "multirun.yaml"
    config = OmegaConf.load(written) if written.is_file() else OmegaConf.create()
    sweeper = OmegaConf.select(config, "hydra.sweeper")
    if sweeper is None or not sweeper._target_.endswith(f".{BasicSweeper.__name__}"):
        return []
    fixed = [f"{name}={value}" for name, value in (sweeper.params or {}).items()]
    given = [*fixed, *_overrides(written, "hydra.overrides.task")]
    overrides = OverridesParser.create().parse_overrides(given)
    return [tuple(run) for run in BasicSweeper.split_arguments(overrides, None)[0]]


def outcome(jobs: Sequence[Job], asked: int = 0, queued: int = 0) -> str:
    """`7 of 9 runs finished, 1 failed, 1 not run`; `queued` of the others are in SLURM's queue."""
    finished = sum(job.finished for job in jobs)
    failed = sum(job.reason is not None for job in jobs)
    stopped, missing = len(jobs) - finished - failed, max(asked - len(jobs), 0)
    begun = min(queued, stopped)
    counts = {
        "failed": failed,
        "stopped": stopped - begun,
        "in the queue": queued,
        "not run": max(missing - (queued - begun), 0),
    }
    parts = [f"{finished} of {max(asked, len(jobs))} runs finished"]
    return ", ".join(parts + [f"{count} {what}" for what, count in counts.items() if count])


def sweep_tables(jobs: Sequence[Job], asked: int = 0, queued: int = 0) -> dict[str, Table]:
    """By file name: the comparison of all that finished, and the matrix where there is one.

    Images that were measured without a run have a table of their own, `measures`. What did not
    finish is listed below the comparison with its reason and the line to run it again; `asked`
    is how many runs there were to be, those that never began among them.
    """
    folders = list(dict.fromkeys(job.result for job in jobs if job.result is not None))
    evaluations = {path: one for path in folders if (one := load_evaluation(path)) is not None}
    results = load_each(path for path in folders if path not in evaluations)
    left = [job for job in jobs if not job.finished]
    measured = {"measures": evaluations_table([*evaluations.values()])} if evaluations else {}
    if not results and not left and asked <= len(jobs):
        return measured
    table = comparison_table(results, outcome(jobs, asked, queued))
    notes = [job.note for job in left]
    tables = {"table": replace(table, notes=(*notes, *table.notes)), **measured}
    matrix = matrix_table(results)
    return tables if matrix is None else {**tables, "matrix": matrix}


def _unreadable(result: Path) -> str | None:
    """The reason why the result of a job cannot be shown, or `None`."""
    try:
        _ = load_evaluation(result) or load_result(result)
        return None
    except (ValueError, OSError) as error:
        return _first_line(str(error))


def _first_line(text: str) -> str:
    """The first line of an error, without control characters of file names in it."""
    return printable(text.partition("\n")[0])


def _number(path: Path) -> tuple[int, str]:
    """Hydra's job number, 10 after 9."""
    from omegaconf import OmegaConf

    number = OmegaConf.select(OmegaConf.load(path), "hydra.job.num")
    return (int(number) if number is not None else 0, str(path))


def _job_id(path: Path) -> str:
    """Number of a job in its launcher."""
    from omegaconf import OmegaConf

    return str(OmegaConf.select(OmegaConf.load(path), "hydra.job.id", default=""))


def _overrides(path: Path, key: str | None = None) -> tuple[str, ...]:
    """The list of words in a YAML file, or the one at a key of it."""
    from omegaconf import OmegaConf

    content = OmegaConf.load(path)
    return tuple(map(str, content if key is None else OmegaConf.select(content, key)))
