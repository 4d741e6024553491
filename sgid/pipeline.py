"""One run, from a config to `results/<fingerprint>/`: the stages in order, each resumable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from sgid.config.schema import Config, Stage
from sgid.models.loader import Loaded
from sgid.reporting.wandb import log_again, log_finished, log_stores, tracking, training_loggers
from sgid.runtime.files import file_lock, require_writable
from sgid.stages.augment import augment
from sgid.stages.data import say, show
from sgid.stages.evaluate import evaluate
from sgid.stages.preflight import rehearse_classifier, warn
from sgid.stages.run import Run, prepare
from sgid.stages.store_evaluation import make_evaluator


def run(
    config: Config,
    choices: dict[str, Any],
    overrides: list[str],
    console: Console,
    *,
    loaded: Loaded | None = None,
) -> Path | None:
    """Run the stages that the config asks for; the folder of the result, if they leave one.

    `loaded` are the models of earlier runs in this process, which are taken where they fit. Images
    are listed anew in each run, since files may have changed; only what is new is read again.

    Raises:
        ValueError, FileNotFoundError: for what the user can mend, before any work is done.
    """
    this = prepare(config, choices, overrides, loaded=loaded)
    for line in this.dataset.protocol["left_out"]["first"]:
        console.print(f"left out: {line}", style="yellow", markup=False, highlight=False)
    if config.stage is Stage.data:
        show(this.dataset, Path(config.paths.artifacts), console)
        return None
    say(this.dataset, console)
    if config.evaluation.images is not None:
        from sgid.stages.evaluate_images import evaluate_images

        return evaluate_images(config, this.dataset, this.models, console)
    warn(config, console)
    _say_what(this, console)
    stages = [Stage.augment, *_STAGES] if config.stage is Stage.all else [config.stage]
    if config.stage is Stage.all and this.finished:
        if this.measured:
            console.print(f"[green]done before[/green]: {escape(str(this.folder))}")
            log_again(config.logger, this.folder)
            return this.folder
        stages = [Stage.evaluate, Stage.report]
    elif this.augmentations:
        make_evaluator(config, this.dataset, this.models)  # what cannot be measured is told now
    require_writable(Path(config.paths.artifacts), "paths.artifacts")
    require_writable(Path(config.paths.results), "paths.results")
    if Stage.train in stages and not (this.folder / "result.json").is_file():
        rehearse_classifier(config, this.ready)
    names = {"config": this.settings, "choices": choices, "seed": config.seed}
    with tracking(config.logger, this.folder, **names):
        if Stage.augment in stages:
            _augment(this, console)  # which several processes may share
        alone_in = [stage for stage in stages if stage is not Stage.augment]
        with _alone(this, console) if alone_in else nullcontext():
            for stage in alone_in:
                _STAGES[stage](this, console)
    return this.folder if {Stage.evaluate, Stage.report} & set(stages) else None


@contextmanager
def _alone(run: Run, console: Console) -> Iterator[None]:
    """No other process at the same run; what it has done meanwhile is not done again."""

    def waiting() -> None:
        console.print(
            f"another process is at {run.folder}: waiting for it",
            style="yellow", highlight=False, markup=False,
        )  # fmt: skip

    with file_lock(run.folder / ".lock", on_wait=waiting):
        for left in run.folder.rglob(".*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        yield


def _augment(run: Run, console: Console) -> None:
    with run.timed("augment"):
        for augmentation in run.augmentations:
            stores = augmentation.stores.values()
            missing = [store.folder for store in stores if not store.complete]
            if run.config.cluster.name == "ray":
                from sgid.cluster.driver import make_stores

                make_stores(run, augmentation, console)
            else:
                augment(augmentation, run.config, run.dataset, run.models)
            log_stores(run.config.logger, missing)
    for augmentation in run.augmentations:
        for what, store in augmentation.stores.items():
            if store.complete:  # captions that are gone are made again when they are asked for
                console.print(
                    f"{what}: {store.rows:,} images in {store.folder} · content {store.content}",
                    highlight=False,
                    markup=False,
                )
        if (kept := run.judgement(augmentation).kept()) is not None:
            dropped = len(kept) - int(kept.sum())
            console.print(f"{augmentation.recipe.method}: {dropped:,} dropped by the filter")


def _train(run: Run, console: Console) -> None:
    from sgid.stages.train import content, train, trained

    training = run.training()
    if trained(training):
        return
    for name in ("result.json", "predictions.parquet", "report.html"):  # of another checkpoint
        (run.folder / name).unlink(missing_ok=True)
    with run.timed("train"):
        loggers = training_loggers(
            run.config.logger, run.folder,
            config=run.settings, choices=run.choices, seed=run.config.seed,
        )  # fmt: skip
        metrics = train(training, run.config, loggers)
    console.print(
        f"validation top-1 {metrics['validation/top1']:.1f} % at the best checkpoint · "
        f"content {content(training)}",
        highlight=False,
    )


def _report(run: Run, console: Console) -> None:
    from sgid.reporting.report import report

    if not (run.folder / "result.json").is_file():
        raise ValueError(f"{run.folder} has no result; run stage=evaluate, or stage=all")
    report(run.folder, Path(run.config.paths.results), console)
    log_finished(run.config.logger, run.folder)


_STAGES = {
    Stage.train: _train,
    Stage.evaluate: evaluate,
    Stage.report: _report,
}


def _say_what(run: Run, console: Console) -> None:
    data, choices = run.dataset, run.choices
    console.print(
        f"[bold]{'+'.join(choices['aug'])}[/bold] · {choices['backbone']} · {escape(data.name)}: "
        f"{len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test, "
        f"{len(data.class_names)} classes · seed {run.config.seed} · {escape(str(run.folder))}",
        highlight=False,
    )
