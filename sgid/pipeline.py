"""One run, from a config to `results/<fingerprint>/`: the stages in order, each resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from sgid.config import Config, Stage
from sgid.files import write_atomic
from sgid.job import Run, prepare
from sgid.models import Loaded
from sgid.preflight import rehearse, warn
from sgid.reporting.loggers import log_again, log_finished, log_stores, tracking, training_loggers
from sgid.stages.augment import augment
from sgid.stages.data import show
from sgid.stages.judge import OF_ALL
from sgid.stages.measured import measuring


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
    if config.evaluation.images is not None:
        from sgid.stages.images import evaluate_images

        return evaluate_images(config, this.dataset, this.models, console)
    warn(config, console)
    _say_what(this, console)
    stages = list(_STAGES) if config.stage is Stage.all else [config.stage]
    if config.stage is Stage.all and this.finished:
        if this.measured:
            console.print(f"[green]done before[/green]: {this.folder}")
            log_again(config.logger, this.folder)
            return this.folder
        stages = [Stage.evaluate, Stage.report]
    elif this.augmentations:
        measuring(config, this.dataset, this.models)  # what cannot be measured is told now
    if Stage.train in stages and not (this.folder / "result.json").is_file():
        rehearse(config, this.ready)
    names = {"config": this.settings, "choices": choices, "seed": config.seed}
    with tracking(config.logger, this.folder, **names):
        for stage in stages:
            _STAGES[stage](this, console)
    return this.folder if {Stage.evaluate, Stage.report} & set(stages) else None


def _augment(run: Run, console: Console) -> None:
    with _timed(run, "augment"):
        for augmentation in run.augmentations:
            stores = [one for one in (augmentation.described, augmentation.generated) if one]
            missing = [store.folder for store in stores if not store.complete]
            augment(augmentation, run.config, run.dataset, run.models)
            log_stores(run.config.logger, missing)
    for augmentation in run.augmentations:
        store = augmentation.generated
        console.print(f"{augmentation.recipe.method}: {store.rows:,} images in {store.folder}")
        if (kept := run.judgement(augmentation).kept()) is not None:
            dropped = len(kept) - int(kept.sum())
            console.print(f"{augmentation.recipe.method}: {dropped:,} dropped by the filter")


def _train(run: Run, console: Console) -> None:
    from sgid.stages.train import train, trained

    training = _training(run)
    if trained(training):
        return
    for name in ("predictions.parquet", "result.json", "report.html"):  # of another checkpoint
        (run.folder / name).unlink(missing_ok=True)
    with _timed(run, "train"):
        loggers = training_loggers(
            run.config.logger, run.folder,
            config=run.settings, choices=run.choices, seed=run.config.seed,
        )  # fmt: skip
        metrics = train(training, run.config, loggers)
    console.print(f"validation top-1 {metrics['validation/top1']:.1f} % at the best checkpoint")


def _evaluate(run: Run, console: Console) -> None:
    from sgid.provenance import commit, versions
    from sgid.stages.evaluate import evaluate_classifier, evaluate_stores
    from sgid.stages.train import trained

    before = _tested(run)
    if before is not None:
        _measure_again(run, before, console)
        return
    training = _training(run)
    metrics = trained(training)
    if metrics is None:
        raise ValueError(f"{run.folder} has no trained checkpoint; run stage=train, or stage=all")
    with _timed(run, "evaluate"):
        metrics |= evaluate_classifier(training, run.config, run.dataset, run.folder)
        summaries = evaluate_stores(
            run.augmentations, run.config, run.dataset, run.models, run.folder
        )
    result = {
        "fingerprint": run.folder.name,
        "choices": run.choices,
        "overrides": run.overrides,
        "seed": run.config.seed,
        "config": run.settings,
        "protocol": run.dataset.protocol,
        "metrics": metrics | _means(summaries),
        "generated": summaries,
        "seconds": run.seconds,
        "stores": _stores(run),
        "versions": versions(),
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(run.folder / "spec.json", _json(run.spec))
    write_atomic(run.folder / "result.json", _json(result))


def _measure_again(run: Run, before: dict[str, Any], console: Console) -> None:
    """Measure the images of a run that was tested before, and leave all else as it was."""
    from sgid.stages.evaluate import evaluate_stores

    if not run.stored:
        console.print(
            "Its images are not all there any more: what was measured of them stays.",
            style="yellow",
        )
        return
    summaries = evaluate_stores(
        run.augmentations, run.config, run.dataset, run.models, run.folder,
        before=before["generated"],
    )  # fmt: skip
    if summaries == before["generated"]:
        return
    (run.folder / "report.html").unlink(missing_ok=True)  # it is of the older measures
    metrics = {**before["metrics"], **_means(summaries)}
    result = {**before, "metrics": metrics, "generated": summaries, "stores": _stores(run)}
    write_atomic(run.folder / "result.json", _json(result))


def _means(summaries: list[dict[str, Any]]) -> dict[str, float]:
    """What is measured of all generated images together, of any method."""
    means = {}
    for name in OF_ALL:
        if summaries and all(summary[name] is not None for summary in summaries):
            total = sum(summary[name] * summary["images"] for summary in summaries)
            means[f"generated/{name}"] = total / sum(one["images"] for one in summaries)
    return means


def _stores(run: Run) -> list[str]:
    pairs = ((one.described, one.generated) for one in run.augmentations)
    return [str(store.folder) for pair in pairs for store in pair if store]


def _tested(run: Run) -> dict[str, Any] | None:
    """The result of a run that was tested before, if its predictions are there."""
    result, predictions = run.folder / "result.json", run.folder / "predictions.parquet"
    if not (result.is_file() and predictions.is_file()):
        return None
    return json.loads(result.read_text(encoding="utf-8"))


def _report(run: Run, console: Console) -> None:
    from sgid.reporting.summary import report

    if not (run.folder / "result.json").is_file():
        raise ValueError(f"{run.folder} has no result; run stage=evaluate, or stage=all")
    report(run.folder, Path(run.config.paths.results), console)
    log_finished(run.config.logger, run.folder)


_STAGES = {
    Stage.augment: _augment,
    Stage.train: _train,
    Stage.evaluate: _evaluate,
    Stage.report: _report,
}


def _training(run: Run) -> Any:
    from sgid.generation.stored import stored_images
    from sgid.stages import train

    for augmentation in run.augmentations:
        if not augmentation.complete:
            raise ValueError(
                f"the images of aug={augmentation.recipe.method} are not all made "
                f"({augmentation.generated.folder}); run stage=augment, or stage=all"
            )
    dataset, weights = run.dataset, run.ready.weights.get("backbone")
    generated = []
    for augmentation in run.augmentations:
        images = stored_images(augmentation.generated, dataset.class_names)
        kept = run.judgement(augmentation).kept()
        generated.append(images if kept is None else images.select(kept.nonzero()[0].tolist()))
    return train.prepare(run.config, dataset, generated, weights, run.folder)


def _say_what(run: Run, console: Console) -> None:
    data, choices = run.dataset, run.choices
    console.print(
        f"[bold]{'+'.join(choices['aug'])}[/bold] · {choices['backbone']} · {data.name}: "
        f"{len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test, "
        f"{len(data.class_names)} classes · seed {run.config.seed} · {run.folder}",
        highlight=False,
    )


@contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    run.seconds[stage] = time.perf_counter() - started


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
