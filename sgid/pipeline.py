"""The stages of a run in order, each resumable, down to `results/<fingerprint>/`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sgid.config.schema import Stage
from sgid.reporting.wandb import log_again, log_finished, log_stores, tracking, training_loggers
from sgid.runtime.files import file_lock, require_writable
from sgid.stages.data import say, show
from sgid.stages.first_look import look_at_classes
from sgid.stages.preflight import check_models, rehearse_classifier, warn
from sgid.stages.run import Run
from sgid.stages.show_image import show_image


def run(this: Run, console: Console) -> Path | None:
    """Run the stages that are asked for; the folder of the result, if they leave one.

    Images are listed again in each run, since files may have changed; only what is new is read.

    Raises:
        ValueError, FileNotFoundError: for what the user can correct.
    """
    shown = this.config.dataset.show
    if shown is not None and this.stage is not Stage.data:
        raise ValueError(f"dataset.show={shown} shows one image: add stage=data")
    for line in this.dataset.protocol["left_out"]["first"]:
        console.print(f"left out: {line}", style="yellow", markup=False, highlight=False)
    if this.stage is Stage.data:
        if shown is None:
            show(this.dataset, this.artifacts, console)
        else:
            show_image(
                shown, this.dataset, this.ready.splits,
                artifacts=this.artifacts, filter=this.config.filter, console=console,
            )  # fmt: skip
        return None
    if this.stage is Stage.export:
        _export(this, console)
        return None
    say(this.dataset, console)
    if (images := this.config.evaluation.images) is not None:
        from sgid.stages.evaluate_images import evaluate_images

        check_models(this.config, this.ready)
        return evaluate_images(
            Path(images), this.evaluator, console,
            seed=this.seed, max_bad=this.config.dataset.max_bad,
            full_scale=this.config.dataset.full_scale, results=this.results,
        )  # fmt: skip
    if this.stage is Stage.check:
        from sgid.stages.check import check

        check_models(this.config, this.ready)
        check(
            this.dataset, this.models,
            strength=this.config.noise_rate, seed=this.seed, console=console,
        )  # fmt: skip
        return None
    if this.stage is Stage.review:
        check_models(this.config, this.ready)
        _review(this, console)
        return None
    warn(this.config, console, overrides=this.overrides)
    _say_what(this, console)
    if this.stage is Stage.screen:
        from sgid.stages.screen import screen

        check_models(this.config, this.ready)
        return screen(this, console)
    stages = _PARTS.get(this.stage, [this.stage])
    if this.stage is Stage.validate and (top1 := this.validation_top1) is not None:
        told = f"[green]done before[/green]: {escape(str(this.folder))}"
        console.print(f"{told}, validation top-1 {top1:.1f} %", highlight=False)
        return this.folder
    if this.stage is Stage.all and this.finished:
        if this.evaluated:
            console.print(f"[green]done before[/green]: {escape(str(this.folder))}")
            log_again(this.logger, this.folder)
            return this.folder
        stages = [Stage.evaluate, Stage.report]
    elif this.augmentations:
        _ = this.evaluator  # a classifier that cannot judge is refused now
    require_writable(this.artifacts, "paths.artifacts")
    require_writable(this.results, "paths.results")
    if Stage.train in stages and not (this.folder / "result.json").is_file():
        rehearse_classifier(this.config, this.ready, this.dataset.train)
    if {Stage.concepts, Stage.augment} & set(stages) and not this.stored:
        check_models(this.config, this.ready)
        for one in this.augmentations:
            if line := one.check_preparation():
                console.print(f"{one.method.name}: {line}", highlight=False, markup=False)
    names = {"config": this.settings, "choices": this.choices, "seed": this.seed}
    with tracking(this.logger, this.folder, **names):
        if Stage.concepts in stages:
            _prepare(this, console)
        if Stage.augment in stages:
            _augment(this, console)  # which several processes may share
        alone_in = [stage for stage in stages if stage not in (Stage.concepts, Stage.augment)]
        with _alone(this, console) if alone_in else nullcontext():
            for stage in alone_in:
                _STAGES[stage](this, console)
    leaves = this.stage is Stage.validate or {Stage.evaluate, Stage.report} & set(stages)
    return this.folder if leaves else None


def _export(run: Run, console: Console) -> None:
    from sgid.stages.export import export
    from sgid.store.tables import open_generated

    check_models(run.config, run.ready)
    store = open_generated(Path(run.config.store.path or ""), option="store")
    kept = run.store_evaluation(store).kept if run.config.filter else None
    asked = run.config.export
    export(
        store, run.dataset, Path(asked.to or "").expanduser(), console,
        format=asked.format, originals=asked.originals, size=asked.size,
        licence=run.config.dataset.licence, kept=kept, results=run.results,
    )  # fmt: skip


def _review(run: Run, console: Console) -> None:
    from sgid.review.app import serve
    from sgid.review.queue import open_queue

    given = run.config.store.path
    stores = [Path(given)] if given else [one.generated.folder for one in run.augmentations]
    if len(stores) != 1:
        theirs = "".join(f"\n  store={folder}" for folder in stores) or " (this run has none)"
        raise ValueError(f"stage=review looks at the images of one store; name it:{theirs}")
    queue = open_queue(stores[0], run.dataset, run.models, run.evaluator, artifacts=run.artifacts)
    asked = run.config.review
    serve(queue, who=asked.who, port=asked.port, console=console)


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


def _prepare(run: Run, console: Console) -> None:
    """Make what methods prepare from the training images, and nothing else."""
    prepared = [(one, one.prepared()) for one in run.augmentations]
    if not any(folder for _, folder in prepared):
        raise ValueError(
            f"stage=concepts: aug=[{','.join(run.choices['aug'])}] learns nothing from the images; "
            "aug=da_fusion is one that does"
        )
    for one, folder in prepared:
        if folder is not None:
            console.print(f"{one.method.name}: {folder}", highlight=False, markup=False)


def _augment(run: Run, console: Console) -> None:
    with run.timed("augment"):
        if not all(one.begun for one in run.augmentations):
            strict = run.config.dataset.strict
            look_at_classes(run.dataset, run.models, run.artifacts, strict=strict)
        for augmentation in run.augmentations:
            stores = augmentation.stores.values()
            missing = [store.folder for store in stores if not store.complete]
            if run.cluster.name == "ray":
                from sgid.cluster.driver import make_stores

                make_stores(run, augmentation, console)
            else:
                augmentation.make()
            log_stores(run.logger, missing)
    for augmentation, evaluation in zip(run.augmentations, run.store_evaluations, strict=True):
        for what, store in augmentation.stores.items():
            if store.complete:  # captions that are gone are made again when they are asked for
                console.print(
                    f"{what}: {store.rows:,} images in {store.folder} · content {store.content}",
                    highlight=False,
                    markup=False,
                )
        if (kept := evaluation.kept()) is not None:
            dropped = len(kept) - int(kept.sum())
            console.print(f"{augmentation.method.name}: {dropped:,} dropped by the filter")


def _train(run: Run, console: Console) -> None:
    from sgid.stages.train import content, train, trained

    training = run.training()
    if trained(training.folder):
        return
    for name in ("result.json", "predictions.parquet", "report.html"):  # of another checkpoint
        (run.folder / name).unlink(missing_ok=True)
    with run.timed("train"):
        loggers = training_loggers(
            run.logger, run.folder,
            config=run.settings, choices=run.choices, seed=run.seed,
        )  # fmt: skip
        metrics = train(training, loggers)
    run.training_rate.note(metrics["train/steps"], metrics["train/seconds"])
    console.print(
        f"validation top-1 {metrics['validation/top1']:.1f} % at the best checkpoint · "
        f"content {content(training.folder)}",
        highlight=False,
    )


def _evaluate(run: Run, console: Console) -> None:
    from sgid.stages.evaluate import evaluate

    evaluate(run, console)


def _report(run: Run, console: Console) -> None:
    from sgid.reporting.report import report

    if not (run.folder / "result.json").is_file():
        raise ValueError(f"{run.folder} has no result; run stage=evaluate, or stage=all")
    report(run.folder, run.results, console)
    log_finished(run.logger, run.folder)


_STAGES = {
    Stage.train: _train,
    Stage.evaluate: _evaluate,
    Stage.report: _report,
}

_PARTS = {
    Stage.all: [Stage.augment, *_STAGES],
    Stage.validate: [Stage.augment, Stage.train],
}
"""The stages that one stage stands for."""


def _say_what(run: Run, console: Console) -> None:
    data, choices = run.dataset, run.choices
    console.print(
        f"[bold]{'+'.join(choices['aug'])}[/bold] · {choices['backbone']} · {escape(data.name)}: "
        f"{len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test, "
        f"{len(data.class_names)} classes · seed {run.seed} · {escape(str(run.folder))}",
        highlight=False,
    )
