"""Regret of `experiment=advise`: how much worse is what it finds than the best of a full grid?

`python -m experiments.advise_regret grid` trains every candidate of a small grid on the bundled
images with four seeds, and keeps, for each run, what was right on validation and test. It may be
stopped and started again. `python -m experiments.advise_regret replay` then plays searches from
that table, without training: the search of `sgid.advise`, with and without its screening, and
random search, with the same budgets.

What is compared was fixed before the grid was read:

- Regret: the test top-1 of the best candidate of the grid, minus that of the candidate that a
  search ends with; both are means over all four seeds.
- Searches: `halving` (as `experiment=advise` has it), `halving, no screening`, `random` (pairs of
  candidate and seed 0 in random order until the budget is spent; the best on validation), and
  `random, two seeds` (each candidate drawn gets two seeds). All may name any candidate, with or
  without generated images: what is best on validation. For `halving` the regret of what it
  *advises* is given as well, which is the best without generated images unless a lead is supported.
- Budgets: 10, 20, 40 and 100 % of the cost of the grid, in CPU seconds of generation and training.
  Images are paid for once, by whichever candidate needs them first; screening is paid for too.
- Validation: all 2,000 images, and 100 of them drawn anew for each replay, as people have.
- 400 replays of each, with seeds and candidates in random order; the same orders for all searches.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from sgid.advise.candidates import expand
from sgid.runtime.files import write_atomic

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
)

STEPS = 150
SEEDS = 4
SHARES = (0.5, 1.0)
"""Of the training steps: the first round's, and the others'."""


def grid(output: Path) -> None:
    """Train what is missing of the grid, and write `table.json` after each run."""
    from sgid.models.loader import Loaded

    table = read(output)
    paths = [f"paths.{name}={output / name}" for name in ("artifacts", "results", "data")]
    loaded = Loaded()
    candidates = expand(LINES)
    for options in candidates:
        name = " ".join(options)
        if name not in table["screened"]:
            table["screened"][name] = screened([*FIXED, *paths, *options], loaded)
            save(output, table)
    for seed in range(SEEDS):
        for options in candidates:
            for share in SHARES:
                cell = f"{' '.join(options)} | {seed} | {share}"
                if cell not in table["runs"]:
                    steps = f"backbone.steps={round(share * STEPS)}"
                    words = [*FIXED, *paths, *options, steps, f"seed={seed}"]
                    table["runs"][cell] = one_run(words, loaded)
                    save(output, table)
                    top1 = np.mean(table["runs"][cell]["validation"])
                    print(f"{len(table['runs'])}: {cell}: {100 * top1:.1f}", flush=True)


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


def read(output: Path) -> dict[str, Any]:
    path = output / "table.json"
    if not path.is_file():
        return {"screened": {}, "runs": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def save(output: Path, table: dict[str, Any]) -> None:
    write_atomic(output / "table.json", json.dumps(table).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["grid"])
    parser.add_argument("--output", type=Path, default=Path("results/advise_regret"))
    given = parser.parse_args()
    if given.what == "grid":
        grid(given.output)


if __name__ == "__main__":
    main()
