"""Cells of a grid on this machine: their results and stores, and whether they exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.paper.grid import Options, Sweep, words
from sgid.config.compose import compose
from sgid.config.schema import Config, in_slot
from sgid.models.loader import Loaded
from sgid.reproducibility import fingerprint
from sgid.stages.run import Run, prepare

CLASSIFIER = "evaluation.classifier"


@dataclass(frozen=True)
class Wanted:
    """A store that a run reads; `rows` is `None` where nobody can tell yet."""

    folder: Path
    rows: int | None

    @property
    def complete(self) -> bool:
        return (self.folder / "manifest.json").is_file()


@dataclass(frozen=True)
class Cell:
    """One run of an experiment, and the stores of images and of captions that it reads.

    It is finished when all that is asked of its images is measured too; those of `classified` cells
    also by the classifier of another run, which is not `shown` itself. `absent` names the dataset
    whose images or weights are not here.
    """

    experiment: str
    options: Options
    folder: Path
    finished: bool
    backbone: str
    stores: tuple[Wanted, ...]
    described: tuple[Wanted, ...] = ()
    classified: bool = False
    shown: bool = True
    absent: str = ""


def locate(
    experiment: str,
    sweep: Sweep,
    given: Sequence[str],
    loaded: Loaded,
    *,
    planned: bool = False,
    on_cell: Callable[[], object] = lambda: None,
) -> list[Cell]:
    """The cells of a sweep, and before them those of its classifiers; nothing is computed.

    `given` are options of the user's for all runs, such as `paths.results=DIR`. What is only
    `planned` needs no images and no weights.

    Raises:
        ValueError, FileNotFoundError: as `run.py` would, for what the user can correct.
    """

    def cell(options: Options, *, classified: bool = False, shown: bool = True) -> Cell:
        typed = [*words(options), *given]
        try:
            return _cell(experiment, options, typed, loaded, classified=classified, shown=shown)
        except FileNotFoundError:
            if not planned:
                raise
            return _unseen(experiment, options, compose(typed), classified=classified, shown=shown)

    cells: list[Cell] = []
    classifiers: dict[str, Cell] = {}
    for options in sweep.cells():
        if sweep.classifier is not None:
            asked = {**options, **sweep.classifier, "seed": "0", "aug": "[flip_crop]"}
            if str(asked) not in classifiers:
                classifiers[str(asked)] = cell(asked, shown=False)
            options = {**options, CLASSIFIER: str(classifiers[str(asked)].folder)}
        cells.append(cell(options, classified=sweep.classifier is not None))
        on_cell()
    return [*classifiers.values(), *cells]


def again(cell: Cell, given: Sequence[str], loaded: Loaded) -> Cell:
    """The cell as it is now."""
    more = {"classified": cell.classified, "shown": cell.shown}
    return _cell(cell.experiment, cell.options, [*words(cell.options), *given], loaded, **more)


def _cell(
    experiment: str,
    options: Options,
    typed: Sequence[str],
    loaded: Loaded,
    *,
    classified: bool,
    shown: bool,
) -> Cell:
    run = prepare(compose(typed), {}, list(typed), loaded=loaded)
    made = [one.generated for one in run.augmentations]
    described = [one.described for one in run.augmentations if one.described]
    return Cell(
        experiment=experiment,
        options=options,
        folder=run.folder,
        finished=run.finished and _has_classifier(run) and run.evaluated,
        backbone=run.config.backbone.name,
        stores=tuple(Wanted(store.folder, store.rows) for store in made),
        described=tuple(Wanted(store.folder, store.rows) for store in described),
        classified=classified,
        shown=shown,
    )


def _has_classifier(run: Run) -> bool:
    """Whether the classifier of the images is there: it may still have to be trained."""
    classifier = run.config.evaluation.classifier
    return classifier is None or (Path(classifier) / "result.json").is_file()


def _unseen(
    experiment: str, options: Options, config: Config, *, classified: bool, shown: bool
) -> Cell:
    """A cell by its config alone: its folders are names that only tell it from others."""
    base = [asdict(config.dataset), config.models.name, config.seed]
    making = [config.steps, config.expansion, asdict(config.store)]
    stores = [
        Wanted(Path(fingerprint([*base, *making, entry])), None)
        for entry in in_slot(config.aug, "offline").values()
    ]
    made = [str(store.folder) for store in stores]
    spec = [*base, config.backbone.name, config.aug, asdict(config.mix), made]
    return Cell(
        experiment=experiment,
        options=options,
        folder=Path(fingerprint(spec if stores else spec[:-2])),
        finished=False,
        backbone=config.backbone.name,
        stores=tuple(stores),
        classified=classified,
        shown=shown,
        absent=config.dataset.name,
    )
