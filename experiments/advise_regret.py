"""Regret of `experiment=advise`: how much worse is what it finds than the best of a full grid?

`python -m experiments.advise_regret grid` trains every candidate of a small grid on the bundled
images with three seeds, and keeps, for each run, what was right on validation and test. It may be
stopped and started again; options after `grid` take the place of the bundled images. `python -m
experiments.advise_regret replay` then plays searches from that table, without training: the search
of `sgid.advise`, with and without its screening, and random search, with the same budgets.

What is compared was fixed before the grid was read:

- Regret: the test top-1 of the best candidate of the grid, minus that of the candidate that a
  search ends with; both are means over all three seeds.
- Searches: `halving` (as `experiment=advise` has it), `halving, no screening`, `random` (pairs of
  candidate and seed 0 in random order until the budget is spent; the best on validation), and
  `random, two seeds` (each candidate drawn gets two seeds). All may name any candidate, with or
  without generated images: what is best on validation. For `halving` the regret of what it
  *advises* is given as well, which is the best without generated images where a lead is small.
- Budgets: 10, 20, 40 and 100 % of the cost of the grid, in CPU seconds of generation and training.
  Images are paid for once, by whichever candidate needs them first; screening is paid for too.
- Validation: all 2,000 images, and 100 of them drawn anew for each replay, as people have.
- Of the searches as they were then (a first round of at most 40 % of the budget, screening also as
  the order, advice only by a supported lead) and as they are now, changed by these replays, the
  figures of both are in `LOG.md`: the second ones are no longer blind.
- 100 replays of each, with seeds and candidates in random order; the same orders for all searches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sgid.advise.candidates import Candidate, expand
from sgid.advise.screening import rule_out
from sgid.advise.search import Found, Outcome, Round, Trial, search
from sgid.config.schema import AdviseConfig
from sgid.runtime.files import write_atomic
from sgid.stages.screen import Screening

LINES = (
    "aug=[flip_crop],[randaugment],[trivialaugment]",
    "aug=[sgid],[sgid,randaugment] noise_rate=0.3,0.7",
    "aug=[sgid,randaugment] noise_rate=0.9",
    "aug=[sgid,randaugment] noise_rate=0.7 guidance.max=15",
    "aug=[sgid,randaugment] noise_rate=0.7 filter=label",
    "aug=[sgid,randaugment] noise_rate=0.7 expansion=4",
    "aug=[text2img_label],[text2img_label,randaugment]",
    "aug=[img2img_label,randaugment],[real_guidance,randaugment]",
)

FIXED = (
    *("dataset=fashion", "dataset.shots=10", "models=tiny", "backbone=small_resnet"),
    *("steps=12", "expansion=2", "trainer.validations=2", "trainer.device=cpu"),
    "backbone.steps=150",
)

SEEDS = 3


def grid(output: Path, options: Sequence[str] = ()) -> None:
    """Train what is missing of the grid, and write `table.json` after each run.

    `options` are those of all runs, beside what is `FIXED` or in its place.

    Raises:
        ValueError: if the folder has a grid of other options.
    """
    from sgid.models.loader import Loaded

    table = read(output)
    if table["runs"] and table["options"] != [*options]:
        raise ValueError(
            f"{output} holds a grid with the options {table['options']}; give another --output"
        )
    table["options"] = [*options]
    fixed = all_options(options)
    paths = [f"paths.{name}={output / name}" for name in ("artifacts", "results", "data")]
    loaded = Loaded()
    candidates = expand(LINES)
    for own in candidates:
        name = " ".join(own)
        if name not in table["screened"]:
            table["screened"][name] = screened([*fixed, *paths, *own], loaded)
            save(output, table)
    for seed in range(SEEDS):
        for own in candidates:
            cell = f"{' '.join(own)} | {seed}"
            if cell not in table["runs"]:
                words = [*fixed, *paths, *own, f"seed={seed}"]
                table["runs"][cell] = one_run(words, loaded)
                save(output, table)
                top1 = np.mean(table["runs"][cell]["validation"])
                print(f"{len(table['runs'])}: {cell}: {100 * top1:.1f}", flush=True)


def all_options(options: Sequence[str]) -> list[str]:
    """`options`, and what is `FIXED` and not among them."""
    named = {word.partition("=")[0] for word in options}
    return [*(word for word in FIXED if word.partition("=")[0] not in named), *options]


def screened(words: list[str], loaded: Any) -> dict[str, Any] | None:
    """The screening of a candidate with its CPU seconds; `None` of one that generates nothing."""
    from rich.console import Console

    from sgid import pipeline
    from sgid.config.compose import compose_choices
    from sgid.stages.run import prepare
    from sgid.stages.screen import SCREEN

    config, choices = compose_choices([*words, "stage=screen"])
    run = prepare(config, choices, words, loaded=loaded)
    if not run.augmentations:
        return None
    started = time.process_time()
    folder = pipeline.run(run, Console(quiet=True))
    assert folder is not None
    (rating,) = json.loads((folder / SCREEN).read_text())
    return {**rating, "seconds": time.process_time() - started}


def one_run(words: list[str], loaded: Any) -> dict[str, Any]:
    """Generate, train, and score validation and test images, with CPU seconds of the first two."""
    from rich.console import Console

    from sgid import pipeline
    from sgid.config.compose import compose_choices
    from sgid.data.image_set import join
    from sgid.stages.run import prepare
    from sgid.training.mixing import Mixed
    from sgid.training.trainer import run_test

    console, seconds, told = Console(quiet=True), {}, {}
    for stage in ("augment", "validate"):
        config, choices = compose_choices([*words, f"stage={stage}"])
        run = prepare(config, choices, words, loaded=loaded)
        started = time.process_time()
        pipeline.run(run, console)
        seconds[stage] = time.process_time() - started
        told = {"stores": [one.generated.folder.name for one in run.augmentations]}
    training, data = run.training(), run.dataset
    both = join(data.validation, data.test)
    training.data.parts["test"] = Mixed(
        both, transform=training.data.parts["test"].transform, folder=run.artifacts / "decoded"
    )
    _, predicted = run_test(
        training.classifier, training.data,
        folder=training.folder, device=training.device, precision="auto",
    )  # fmt: skip
    right = (np.array(predicted) == np.array(both.labels)).astype(int)
    count = len(data.validation)
    return {
        **told,
        "seconds": seconds,
        "best_checkpoint": run.validation_top1,
        "validation": right[:count].tolist(),
        "test_top1": 100 * float(right[count:].mean()),
    }


BUDGETS = (0.1, 0.2, 0.4, 1.0)
"""Shares of what the whole grid costs."""

FEW = 100
"""Validation images, as people have them."""

REPLAYS = 100


@dataclass
class TableTrials:
    """Trials of `sgid.advise.search` that are looked up: validation on the images `rows`."""

    table: Table
    seeds: Sequence[int]
    rows: np.ndarray
    outcomes: dict[Trial, Outcome] = field(default_factory=dict)

    def planned(self, place: Round) -> None:
        """No replay is killed."""

    def plan(self, place: Round, running: Sequence[Candidate]) -> None: ...

    def cost(self, trials: Sequence[Trial]) -> float:
        drawn = {store for trial in self.outcomes for store in self._cell(trial).stores}
        total = 0.0
        for trial in trials:
            if trial not in self.outcomes:
                cell = self._cell(trial)
                total += cell.training
                total += sum(self.table.generation[one] for one in cell.stores - drawn)
                drawn |= cell.stores
        return total

    def run(self, trials: Sequence[Trial], limit: float) -> None:
        for trial in trials:
            if trial not in self.outcomes:
                seconds = self.cost([trial])
                if self.spent + seconds > limit:
                    return
                top1 = 100 * float(self._cell(trial).validation[self.rows].mean())
                self.outcomes[trial] = Outcome(top1, seconds)

    @property
    def spent(self) -> float:
        return sum(one.seconds for one in self.outcomes.values())

    def _cell(self, trial: Trial) -> Cell:
        return self.table.cells[trial.candidate, self.seeds[trial.seed]]


@dataclass(frozen=True)
class Cell:
    """One run of the grid: (images,) bool of validation, test top-1, stores, training seconds."""

    validation: np.ndarray
    test_top1: float
    stores: frozenset[str]
    training: float


@dataclass(frozen=True)
class Table:
    """The grid: its runs by candidate and seed, seconds of each store, and what was screened."""

    candidates: list[Candidate]
    seeds: list[int]
    cells: dict[tuple[Candidate, int], Cell]
    generation: dict[str, float]
    rated: dict[Candidate, list[Screening]]
    screening: float

    @property
    def cost(self) -> float:
        """CPU seconds of the whole grid."""
        return sum(cell.training for cell in self.cells.values()) + sum(self.generation.values())

    def test(self, candidate: Candidate) -> float:
        return float(np.mean([self.cells[candidate, seed].test_top1 for seed in self.seeds]))


def load(output: Path) -> Table:
    """The grid's table, with the seeds that all candidates have been trained with."""
    raw = read(output)
    rated, screening = {}, 0.0
    names = [" ".join(options) for options in expand(LINES)]
    candidates = [
        Candidate(options, raw["screened"][name] is not None)
        for options, name in zip(expand(LINES), names, strict=True)
    ]
    for candidate, name in zip(candidates, names, strict=True):
        if (told := raw["screened"][name]) is not None:
            screening += told["seconds"]
            keys = ("method", "consistency", "diversity", "reference", "images")
            rated[candidate] = [Screening(**{key: told[key] for key in keys})]
    seeds = [s for s in range(SEEDS) if all(f"{name} | {s}" in raw["runs"] for name in names)]
    cells, generation = {}, {}
    for candidate, name in zip(candidates, names, strict=True):
        for seed in seeds:
            told = raw["runs"][f"{name} | {seed}"]
            for store in told["stores"]:  # the first that needs it draws it, the others open it
                generation[store] = max(generation.get(store, 0.0), told["seconds"]["augment"])
            cells[candidate, seed] = Cell(
                np.array(told["validation"], bool),
                told["test_top1"],
                frozenset(told["stores"]),
                told["seconds"]["validate"],
            )
    return Table(candidates, seeds, cells, generation, rated, screening)


def halving(table: Table, trials: TableTrials, order: list[Candidate], limit: float) -> Found:
    return search(order, trials, limit=limit, seeds=len(table.seeds))


def screened_halving(
    table: Table, trials: TableTrials, order: list[Candidate], limit: float
) -> Found:
    out = rule_out(table.rated, AdviseConfig().least_score)
    left = [one for one in order if one not in out]
    return halving(table, trials, left, limit - table.screening)


def at_random(
    trials: TableTrials, order: list[Candidate], limit: float, seeds: int
) -> Candidate | None:
    """The best on validation of candidates in random order, each with so many seeds."""
    means: dict[Candidate, float] = {}
    for one in order:
        own = [Trial(one, seed) for seed in range(seeds)]
        if trials.spent + trials.cost(own) > limit:
            break
        trials.run(own, float("inf"))
        means[one] = float(np.mean([trials.outcomes[trial].top1 or 0.0 for trial in own]))
    return max(means, key=lambda one: means[one]) if means else None


def replay(output: Path) -> str:
    """Markdown tables of the grid, and of the mean regret of each search."""
    table = load(output)
    best = max(table.test(one) for one in table.candidates)
    regrets: dict[tuple[str, int, float], list[float]] = {}
    unanswered: Counter[tuple[str, int, float]] = Counter()
    for number in range(REPLAYS):
        rng = np.random.default_rng(number)
        order = [table.candidates[i] for i in rng.permutation(len(table.candidates))]
        seeds = [table.seeds[i] for i in rng.permutation(len(table.seeds))]
        whole = len(next(iter(table.cells.values())).validation)
        for images in (whole, FEW):
            rows = rng.choice(whole, images, replace=False)
            for budget in BUDGETS:
                answers = _answers(table, seeds, rows, order, budget * table.cost)
                for name, one in answers.items():
                    key = (name, images, budget)
                    # Who has no answer takes the first perturbation of the list.
                    unanswered[key] += one is None
                    regret = best - table.test(one or table.candidates[0])
                    regrets.setdefault(key, []).append(regret)
    return _markdown(table, regrets, unanswered)


def _answers(
    table: Table, seeds: list[int], rows: np.ndarray, order: list[Candidate], limit: float
) -> dict[str, Candidate | None]:
    answers: dict[str, Candidate | None] = {}
    for name, find in (("halving", screened_halving), ("halving, no screening", halving)):
        try:
            found = find(table, TableTrials(table, seeds, rows), order, limit)
        except ValueError:  # too little time
            found = None
        answers[name] = found and (found.contender if found.lead.value > 0 else found.baseline)
        answers[f"{name}: what it advises"] = found and found.advised
    for count, name in ((1, "random"), (2, "random, two seeds")):
        answers[name] = at_random(TableTrials(table, seeds, rows), order, limit, count)
    return answers


def _markdown(
    table: Table,
    regrets: dict[tuple[str, int, float], list[float]],
    unanswered: Counter[tuple[str, int, float]],
) -> str:
    lines = [
        f"{len(table.candidates)} candidates, {len(table.seeds)} seeds; the grid took "
        f"{table.cost / 60:.1f} CPU minutes, screening {table.screening / 60:.1f}.",
        "",
        "| candidate | validation | test | consistency × diversity |",
        "|---|---|---|---|",
    ]
    for one in sorted(table.candidates, key=lambda one: -table.test(one)):
        top1 = [table.cells[one, seed].validation.mean() for seed in table.seeds]
        rating = f"{table.rated[one][0].score:.3f}" if one in table.rated else "–"
        row = f"| `{one.name}` | {100 * np.mean(top1):.1f} | {table.test(one):.1f} | {rating} |"
        lines.append(row)
    shares = " | ".join(f"{100 * budget:.0f} %" for budget in BUDGETS)
    lines += ["", f"| search | validation images | {shares} |", "|---" * (2 + len(BUDGETS)) + "|"]
    for name, images in dict.fromkeys((name, images) for name, images, _ in regrets):
        cells = []
        for budget in BUDGETS:
            values = regrets[name, images, budget]
            half = 1.96 * np.std(values) / np.sqrt(len(values))
            missing = 100 * unanswered[name, images, budget] / len(values)
            cells.append(
                f"{np.mean(values):.2f} ± {half:.2f}"
                + (f" ({missing:.0f} % without an answer)" if missing else "")
            )
        lines.append(f"| {name} | {images:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read(output: Path) -> dict[str, Any]:
    path = output / "table.json"
    if not path.is_file():
        return {"options": [], "screened": {}, "runs": {}}
    return {"options": [], **json.loads(path.read_text(encoding="utf-8"))}


def save(output: Path, table: dict[str, Any]) -> None:
    write_atomic(output / "table.json", json.dumps(table).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["grid", "replay"])
    parser.add_argument("--output", type=Path, default=Path("results/advise_regret"))
    parser.add_argument("options", nargs="*", help="of the grid's runs: dataset=folder ...")
    given = parser.parse_intermixed_args()
    if given.what == "grid":
        grid(given.output, given.options)
    else:
        print(replay(given.output))


if __name__ == "__main__":
    main()
