"""Hydra multiruns for the cells that are not there yet, some at a time; safe to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.paper.cells import CLASSIFIER, Cell, Wanted
from experiments.paper.grid import Options, Sweep, products, swept, words
from sgid.reporting.sweep import read_jobs
from sgid.runtime.launcher import ERROR
from sgid.runtime.terminal import progress

ROOT = Path(__file__).resolve().parents[2]
APART = ("seed", "backbone", "dataset", "dataset.shots")
"""Options whose values go to different processes, so that there is enough to hand out."""
PATIENCE = 30
"""Seconds that a process has to end after a signal."""


@dataclass(frozen=True)
class Going:
    """A multirun at work: the cells that it was given, and where its words go."""

    process: subprocess.Popen[bytes]
    log: Path
    cells: Sequence[Options]


@dataclass
class Runner:
    """`processes` multiruns at once, each with its share of the cores, their logs below `folder`.

    `given` are options for all runs. With a launcher of Hydra's among them there is one multirun,
    and the launcher decides what runs at once, and where.
    """

    given: Sequence[str]
    processes: int
    folder: Path
    ended: list[tuple[Options, str]] = field(default_factory=list)

    @property
    def launched(self) -> bool:
        return any(option.startswith("hydra/launcher=") for option in self.given)

    def run(self, cells: Sequence[Cell]) -> None:
        """Make what is missing. What several runs share comes first, or each would make it.

        A run that fails does not stop the others.
        """
        left = [cell for cell in cells if not cell.finished]
        if self.launched or self.processes > 1:
            for what, shared in (("caption", _described), ("make images", _generated)):
                self._multiruns(_makers(left, shared), ["stage=augment"], what, _made(shared))
        # The classifier must be trained before its predictions are asked for.
        for classified in (False, True):
            some = [cell for cell in left if cell.classified is classified]
            self._multiruns(
                some, [], "classifier" if classified else "train", _reported(time.time())
            )

    def reason(self, cell: Cell) -> str:
        """The reason why a run is missing: its error, and the file of that."""
        asked = set(words(cell.options))
        for sweep in sorted(path for path in self.folder.glob("*") if path.is_dir()):
            for job in read_jobs(sweep):
                if asked <= set(job.overrides) and job.reason is not None:
                    return f"{job.reason} ({job.folder / ERROR})"
        return next((said for options, said in self.ended if options == cell.options), "not run")

    def _multiruns(
        self,
        cells: Sequence[Cell],
        more: Sequence[str],
        what: str,
        done: Callable[[Cell], bool],
    ) -> None:
        if not cells:
            return
        waiting = list(self._boxes(cells))
        going: list[Going] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        with progress(what, len(cells), "runs") as bar:
            try:
                while waiting or going:
                    while waiting and len(going) < self.processes:
                        experiment, box = waiting.pop(0)
                        going.append(self._start(experiment, box, more))
                    time.sleep(1)
                    for one in [one for one in going if one.process.poll() is not None]:
                        going.remove(one)
                        if code := one.process.returncode:
                            said = f"its process ended with code {code}, see {one.log}"
                            self.ended += [(options, said) for options in one.cells]
                    bar.update(sum(map(done, cells)) - bar.n)
            except BaseException:
                _stop(going)
                raise

    def _boxes(self, cells: Sequence[Cell]) -> Iterator[tuple[str, dict[str, list[str]]]]:
        """An experiment and a product of its options, for each multirun."""
        apart = () if self.launched else APART
        for experiment in dict.fromkeys(cell.experiment for cell in cells):
            own = [cell.options for cell in cells if cell.experiment == experiment]
            for box in products(own, apart=apart):
                yield experiment, box

    def _start(self, experiment: str, box: dict[str, list[str]], more: Sequence[str]) -> Going:
        name = f"{sum(1 for _ in self.folder.glob('*.log')):03d}"
        log = self.folder / f"{name}.log"
        command = [sys.executable, str(ROOT / "run.py"), "-m", *swept(box), *more, *self.given]
        if any(option.startswith("logger=") and option != "logger=none" for option in self.given):
            command.append(f"logger.group={experiment}")
        if not any(option.startswith("hydra.sweep.dir=") for option in self.given):
            command.append(f"hydra.sweep.dir={self.folder / name}")
        environment = {**os.environ}
        if self.processes > 1:
            threads = max(1, (os.cpu_count() or 1) // self.processes)
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with log.open("wb") as stream:
            stream.write(f"{' '.join(command[1:])}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return Going(process, log, Sweep(box).cells())


def _stop(going: Sequence[Going]) -> None:
    """Tell all to end, with what they have started; those that do not are ended."""
    for number, patience in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, None)):
        for one in going:
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            for one in going:
                one.process.wait(patience)


def _makers(cells: Sequence[Cell], shared: Callable[[Cell], Sequence[Wanted]]) -> list[Cell]:
    """The first cell that asks for each store that is not there; its classifier may not be yet."""
    claimed: set[Path] = set()
    makers = []
    for cell in cells:
        wanted = {store.folder for store in shared(cell) if not store.complete} - claimed
        if wanted:
            options = {key: value for key, value in cell.options.items() if key != CLASSIFIER}
            makers.append(replace(cell, options=options))
            claimed |= wanted
    return makers


def _described(cell: Cell) -> Sequence[Wanted]:
    return cell.described


def _generated(cell: Cell) -> Sequence[Wanted]:
    return cell.stores


def _made(shared: Callable[[Cell], Sequence[Wanted]]) -> Callable[[Cell], bool]:
    return lambda cell: all(store.complete for store in shared(cell))


def _reported(since: float) -> Callable[[Cell], bool]:
    def reported(cell: Cell) -> bool:
        page = cell.folder / "report.html"
        return page.is_file() and page.stat().st_mtime >= since

    return reported
