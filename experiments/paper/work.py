"""The work of a command line: look up the cells, run what is missing, write the pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.paper.cells import Cell, again, locate
from experiments.paper.grid import Sweep, plain, words
from experiments.paper.page import Page
from experiments.paper.pages import Chapter, write_chapter, write_index
from experiments.paper.plan import plan_table
from experiments.paper.rates import measured
from experiments.paper.running import Runner
from experiments.paper.scales import NAMES, Scale
from sgid.errors import message
from sgid.models.loader import Loaded
from sgid.reporting.format import command
from sgid.reporting.results import Result, load_each
from sgid.runtime.terminal import progress


@dataclass
class Work:
    """Experiments `names` at a scale; `options` are those of run.py for all their runs."""

    scale: Scale
    names: Sequence[str]
    options: Sequence[str]
    processes: int
    output: Path | None
    console: Console
    loaded: Loaded = field(default_factory=Loaded)
    planned: bool = False

    def plan(self) -> int:
        """Print what would run; 0. Neither images nor weights need be here."""
        self.planned = True
        cells = list(self._once.values())
        done = load_each(cell.folder for cell in cells if cell.finished)
        rates = measured(done, [store for cell in cells for store in cell.stores])
        plan_table(self.cells, rates, self.processes).print(self.console)
        return 0

    def run(self) -> int:
        """Run what is missing and write the pages; 1 if a run is still missing."""
        folder = Path("outputs") / "paper" / self.scale.name / time.strftime("%Y-%m-%d-%H-%M-%S")
        runner = Runner(self.options, self.processes, folder)
        runner.run(list(self._once.values()))
        for name, cells in self.cells.items():
            self.cells[name] = [
                cell if cell.finished else again(cell, self._plain, self.loaded) for cell in cells
            ]
        return self.pages(runner)

    def pages(self, runner: Runner | None = None) -> int:
        """Write a page for each experiment from what is finished; 1 if a run is missing.

        Pages that there is nothing to write from stay as they are; so does the index, unless all
        experiments are asked for. `runner` knows why runs are missing.
        """
        folder = self.output or Path("docs/results") / self.scale.name
        chapters = []
        with progress("pages", len(self.cells), "pages") as bar:
            for name in self.cells:
                chapter = self._chapter(name)
                if chapter.results:
                    write_chapter(chapter, folder)
                    chapters.append(chapter)
                bar.update()
        pages = [folder / f"{chapter.name}.md" for chapter in chapters]
        if set(self.names) == set(NAMES) and chapters:
            pages = [write_index(chapters, self.scale.name, folder)]
        for page in pages:
            self._say(f"results: {page}")
        left = [cell for cell in self._once.values() if not cell.finished]
        for cell in left:
            why = runner.reason(cell) if runner else "not run"
            self._say(f"missing: {command([*words(cell.options), *self.options])}\n    {why}")
        return 1 if left else 0

    @cached_property
    def cells(self) -> dict[str, list[Cell]]:
        """Cells of each experiment; nothing is computed."""
        sweeps = {name: _module(name).grid(self.scale) for name in self.names}
        count = sum(len(sweep.cells()) for some in sweeps.values() for sweep in some)
        with progress("look up", count, "runs") as bar:
            return {
                name: [cell for sweep in some for cell in self._locate(name, sweep, bar.update)]
                for name, some in sweeps.items()
            }

    def _locate(self, name: str, sweep: Sweep, on_cell: Callable[[], object]) -> list[Cell]:
        how = {"planned": self.planned, "on_cell": on_cell}
        return locate(name, sweep, self._plain, self.loaded, **how)

    @property
    def _once(self) -> dict[tuple[Path, bool], Cell]:
        """Cells without repeats: a run of several experiments belongs to the first."""
        found: dict[tuple[Path, bool], Cell] = {}
        for cells in self.cells.values():
            for cell in cells:
                found.setdefault((cell.folder, cell.classified), cell)
        return found

    @property
    def _plain(self) -> list[str]:
        return plain(self.options)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    def _chapter(self, name: str) -> Chapter:
        module, scale = _module(name), f"scale={self.scale.name}"
        shown = {cell.folder: cell for cell in self.cells[name] if cell.shown}
        # As they would be asked for now: the same run may have been made for another experiment,
        # or with its images in another place.
        results = [
            replace(one, overrides=(*words(shown[one.folder].options), *self._plain))
            for one in load_each(folder for folder, cell in shown.items() if cell.finished)
        ]
        return Chapter(
            name=name,
            title=module.TITLE,
            question=module.__doc__.strip(),
            command=["python", "-m", "experiments.paper", name, scale, *self.options],
            asked=len(shown),
            results=results,
            page=self._render(module, results),
        )

    def _render(self, module: Any, results: Sequence[Result]) -> Page:
        """Write the page of an experiment; it names what lacks weights or images."""
        try:
            return module.render(results)
        except Exception as error:
            if (text := message(error)) is None:
                raise
            return Page((f"This could not be drawn: {text}",))


def _module(name: str) -> Any:
    return import_module(f"experiments.paper.{name}")
