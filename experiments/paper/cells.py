"""What each cell of a grid is on this machine: its result, its stores, and whether they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.paper.grid import Options, Sweep, words
from sgid.compose import compose
from sgid.models import Loaded
from sgid.pipeline import prepare
from sgid.store import Store


@dataclass(frozen=True)
class Cell:
    """One run of an experiment.

    `stores` are those that it reads, described and generated. `judged` cells are finished only when
    their images have been judged by the classifier of another run.
    """

    experiment: str
    options: Options
    folder: Path
    finished: bool
    backbone: str
    originals: int
    stores: tuple[Store, ...]
    judged: bool = False

    @property
    def missing(self) -> list[Store]:
        return [store for store in self.stores if not store.complete]


def locate(experiment: str, sweep: Sweep, given: Sequence[str], loaded: Loaded) -> list[Cell]:
    """The cells of a sweep, and before them those of its judges; nothing is computed.

    `given` are options of the user's for all runs, such as `paths.results=DIR`.

    Raises:
        ValueError, FileNotFoundError: as `run.py` would, for what the user can mend.
    """
    cells: list[Cell] = []
    judges: dict[str, Cell] = {}
    for options in sweep.cells():
        if sweep.judge is None:
            cells.append(_cell(experiment, options, given, loaded))
            continue
        asked = {**options, **sweep.judge, "seed": "0", "aug": "[flip_crop]"}
        if str(asked) not in judges:
            judges[str(asked)] = _cell(experiment, asked, given, loaded)
        judge = str(judges[str(asked)].folder)
        options = {**options, "evaluation.classifier": judge}
        cells.append(_cell(experiment, options, given, loaded, judged=True))
    return [*judges.values(), *cells]


def _cell(
    experiment: str,
    options: Options,
    given: Sequence[str],
    loaded: Loaded,
    *,
    judged: bool = False,
) -> Cell:
    typed = [*words(options), *given]
    run = prepare(compose(typed), {}, typed, loaded=loaded)
    stores = [s for one in run.augmentations for s in (one.described, one.generated) if s]
    return Cell(
        experiment,
        options,
        run.folder,
        run.finished,
        run.config.backbone.name,
        len(run.dataset.train),
        tuple(stores),
        judged,
    )
