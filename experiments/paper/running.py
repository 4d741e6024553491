"""Hydra multiruns for the cells that are not there yet, some at a time; safe to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.paper.cells import Cell
from experiments.paper.grid import products, swept
from sgid.progress import progress
from sgid.reporting.sweep import read_jobs

ROOT = Path(__file__).resolve().parents[2]
APART = ("seed", "backbone", "dataset", "dataset.shots")
"""Options whose values go to different processes, so that there is enough to hand out."""


@dataclass(frozen=True)
class Runner:
    """`processes` multiruns at once, each with its share of the cores, their logs below `folder`.

    `given` are options for all runs. With a launcher of Hydra's among them there is one multirun,
    and the launcher decides what runs at once, and where.
    """

    given: Sequence[str]
    processes: int
    folder: Path

    @property
    def launched(self) -> bool:
        return any(option.startswith("hydra/launcher=") for option in self.given)

    def run(self, cells: Sequence[Cell]) -> None:
        """Make what is missing. Several runs would make a store they share twice: it comes first.

        A run that fails does not stop the others.
        """
        left = [cell for cell in cells if not cell.finished]
        if self.launched or self.processes > 1:
            self._multiruns(_makers(left), ["stage=augment"], "make images", _made)
        # The classifier that judges must be there when it is asked.
        for judged in (False, True):
            some = [cell for cell in left if cell.judged is judged]
            self._multiruns(some, [], "judge" if judged else "train", _trained(time.time()))

    def reasons(self) -> dict[frozenset[str], str]:
        """Why runs failed, by their options: the last line of the error each left, and where."""
        found = {}
        for sweep in sorted(path for path in self.folder.glob("*") if path.is_dir()):
            for job in read_jobs(sweep):
                error = job.folder / "error.txt"
                if not job.finished and error.is_file():
                    last = error.read_text(encoding="utf-8").strip().splitlines()[-1]
                    found[frozenset(job.overrides)] = f"{last} ({error})"
        return found

    def _multiruns(
        self,
        cells: Sequence[Cell],
        more: Sequence[str],
        what: str,
        done: Callable[[Cell], bool],
    ) -> None:
        if not cells:
            return
        waiting = list(self._commands(cells, more))
        going: list[subprocess.Popen[bytes]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        with progress(what, len(cells), "runs") as bar:
            try:
                while waiting or going:
                    while waiting and len(going) < self.processes:
                        going.append(self._start(waiting.pop(0)))
                    time.sleep(1)
                    going = [one for one in going if one.poll() is None]
                    bar.update(sum(map(done, cells)) - bar.n)
            except BaseException:
                for one in going:
                    with suppress(ProcessLookupError):
                        os.killpg(one.pid, signal.SIGINT)
                raise

    def _commands(self, cells: Sequence[Cell], more: Sequence[str]) -> Iterable[list[str]]:
        apart = () if self.launched else APART
        for experiment in dict.fromkeys(cell.experiment for cell in cells):
            own = [cell.options for cell in cells if cell.experiment == experiment]
            tracked = [f"logger.group={experiment}"] if _logged(self.given) else []
            for box in products(own, apart=apart):
                yield [*swept(box), *more, *self.given, *tracked]

    def _start(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        number = sum(1 for _ in self.folder.glob("*.log"))
        name = f"{number:03d}"
        command = [sys.executable, str(ROOT / "run.py"), "-m", *options]
        if not any(option.startswith("hydra.sweep.dir=") for option in options):
            command.append(f"hydra.sweep.dir={self.folder / name}")
        threads = max(1, (os.cpu_count() or 1) // self.processes)
        environment = {**os.environ}
        if self.processes > 1:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with (self.folder / f"{name}.log").open("wb") as log:
            log.write(f"{' '.join(command[1:])}\n".encode())
            log.flush()
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )


def _makers(cells: Sequence[Cell]) -> list[Cell]:
    """The first cell that asks for each store that is not there."""
    claimed: set[Path] = set()
    makers = []
    for cell in cells:
        wanted = {store.folder for store in cell.missing} - claimed
        if wanted:
            makers.append(cell)
            claimed |= wanted
    return makers


def _made(cell: Cell) -> bool:
    return not cell.missing


def _trained(since: float) -> Callable[[Cell], bool]:
    def trained(cell: Cell) -> bool:
        page = cell.folder / "report.html"
        return page.is_file() and page.stat().st_mtime >= since

    return trained


def _logged(given: Sequence[str]) -> bool:
    return any(option.startswith("logger=") and option != "logger=none" for option in given)
