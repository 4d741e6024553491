"""A run in Weights & Biases: live curves while it trains, figures and images when it is done.

One W&B run holds both, known by the run's fingerprint: `open_run` returns the one that is open.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.reporting.arms import arm
from sgid.reporting.results import Example, Result, read_curves, read_examples
from sgid.reporting.wording import aug_text

if TYPE_CHECKING:
    import wandb

STEP = "trainer/global_step"  # Lightning's name for the axis of its curves


@dataclass(frozen=True)
class WandbSettings:
    """Where runs go; `None` leaves a thing to W&B, or for `group` to the arm of the run."""

    project: str
    entity: str | None = None
    group: str | None = None
    tags: Sequence[str] = ()


def open_run(
    settings: WandbSettings,
    run_folder: Path,
    *,
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    seed: int,
) -> wandb.Run:
    """The W&B run of a result folder: the open one, or one begun (or resumed) now.

    Its files go below `run_folder`; `WANDB_MODE=offline` keeps them there. For live curves hand it
    to Lightning as `WandbLogger(experiment=open_run(...))`.
    """
    import wandb

    fingerprint = run_folder.name
    if wandb.run is not None and wandb.run.id == fingerprint:
        return wandb.run
    aug = choices["aug"]
    words = [str(choices["dataset"]), str(choices["backbone"]), aug_text(aug)]
    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        group=settings.group or f"{' '.join(words)} {arm(config, aug)[:6]}",
        name=f"{' '.join(words)} seed {seed}",
        tags=[*settings.tags, *words[:2], *aug],
        config=dict(config),
        dir=run_folder,
        id=fingerprint,
        resume="allow",
        # A job of the same sweep that failed may have left its run open.
        reinit="finish_previous",
        settings=wandb.Settings(console="off"),
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return run


def log_run(result: Result, run_folder: Path, settings: WandbSettings) -> None:
    """Log a finished run's figures, tables and images, and close its W&B run.

    Curves are taken from the run's folder unless the training logged them live.
    """
    import wandb

    run = open_run(
        settings, run_folder, config=result.config, choices=result.choices, seed=result.seed
    )
    if run.step == 0:
        for step, values in sorted(_by_step(run_folder).items()):
            run.log({**values, STEP: step})
    media: dict[str, Any] = {
        f"report/{path.stem}": wandb.Image(str(path)) for path in sorted(run_folder.glob("*.png"))
    }
    with _staged_in(run_folder / "wandb"):
        media["test/classes"] = _class_table(result)
        if examples := read_examples(run_folder):
            media["augmented"] = _example_table(examples)
        run.log(media)
    per_class = {f"test/top1/{name}" for name in result.class_accuracy}
    run.summary.update({key: v for key, v in result.metrics.items() if key not in per_class})
    run.finish()


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Keep the images of tables with the run: W&B would stage them in the home directory."""
    chosen = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = chosen or str(folder.absolute())
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["WANDB_DATA_DIR"]


def _by_step(run_folder: Path) -> dict[int, dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for name, curve in read_curves(run_folder).items():
        for step, value in zip(curve.steps, curve.values, strict=True):
            rows.setdefault(step, {})[name] = value
    return rows


def _class_table(result: Result) -> wandb.Table:
    import wandb

    rows: list[Any] = [[name, value] for name, value in result.class_accuracy.items()]
    return wandb.Table(columns=["class", "top1"], data=rows)


def _example_table(examples: Sequence[Example]) -> wandb.Table:
    """A row per augmented image, its original beside it, and whether a filter kept it."""
    import wandb
    from PIL import Image

    def picture(encoded: bytes) -> wandb.Image:
        return wandb.Image(Image.open(io.BytesIO(encoded)))

    shown = ["method", "class_name", "caption", "similarity", "guidance_scale", "strength"]
    rows: list[Any] = [
        [picture(one.original), picture(image), kept, *(getattr(one, name) for name in shown)]
        for one in examples
        for image, kept in zip(one.images, one.kept, strict=True)
    ]
    return wandb.Table(columns=["original", "augmented", "kept", *shown], data=rows)
