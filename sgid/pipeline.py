"""One run, from a config to `results/<fingerprint>/`: the stages in order, each resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from sgid.config import Config, Stage
from sgid.data.datasets import Dataset
from sgid.fingerprint import fingerprint
from sgid.models import Loaded, Models
from sgid.preflight import Ready, check, rehearse, warn
from sgid.slots import in_slot
from sgid.stages.augment import Augmentation, augment, augmentations
from sgid.stages.data import load, show
from sgid.stages.judge import Judgement
from sgid.store import write_atomic

CODE = 4
"""Raised when the code changes what the same config gives, so that old results are not reused."""


@dataclass(frozen=True)
class Run:
    """What the stages need, made once."""

    config: Config
    choices: dict[str, Any]
    overrides: list[str]
    ready: Ready
    dataset: Dataset
    models: Models
    augmentations: list[Augmentation]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> dict[str, Any]:
        """What determines the result of this run."""
        config, data = self.config, self.dataset
        backbone = self.ready.weights.get("backbone")
        return {
            "kind": "run",
            "code": CODE,
            "noun": data.noun,  # zero-shot heads are made of phrases
            "images": [part.digest() for part in (data.train, data.validation, data.test)],
            "generated": [one.generated.folder.name for one in self.augmentations],
            "scorer": self.models.identity("scorer") if self.augmentations else None,
            "filter": config.filter if self.augmentations else None,
            "mix": asdict(config.mix) if self.augmentations else None,
            "base": in_slot(config, "base"),
            # In their order: it decides what comes of them.
            "online": list(in_slot(config, "online").items()),
            "batch": list(in_slot(config, "batch").items()),
            "backbone": {**asdict(config.backbone), "weights": backbone and backbone.identity},
            "precision": config.trainer.precision,
            "compile": config.trainer.compile,
            "validations": config.trainer.validations,
            "seed": config.seed,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The config as JSON can say it, with what weights and images are, not only where."""
        settings = {**asdict(self.config), "stage": self.config.stage.value}
        # Neither part hangs on the seed.
        parts = [self.dataset.validation.digest(), self.dataset.test.digest()]
        settings["dataset"]["images"] = fingerprint(parts)
        for name, located in self.ready.weights.items():
            at = settings
            for key in name.split("."):
                at = at[key]
            at["weights"] = located.identity
        return settings

    def judgement(self, augmentation: Augmentation) -> Judgement:
        return Judgement(augmentation.generated, self.config, self.dataset, self.models)

    @cached_property
    def folder(self) -> Path:
        return Path(self.config.paths.results) / fingerprint(self.spec)

    @property
    def finished(self) -> bool:
        return (self.folder / "report.html").is_file()


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
    warn(config, console)
    _say_what(this, console)
    stages = list(_STAGES) if config.stage is Stage.all else [config.stage]
    if config.stage is Stage.all and this.finished:
        console.print(f"[green]done before[/green]: {this.folder}")
        return this.folder
    if Stage.train in stages and not (this.folder / "result.json").is_file():
        rehearse(config, this.ready)
    for stage in stages:
        _STAGES[stage](this, console)
    return this.folder if {Stage.evaluate, Stage.report} & set(stages) else None


def prepare(
    config: Config,
    choices: dict[str, Any],
    overrides: list[str],
    *,
    loaded: Loaded | None = None,
) -> Run:
    """A run before its first stage: what it would do, where, and what of it is there already.

    Raises:
        ValueError, FileNotFoundError: for what the user can mend.
    """
    ready = check(config)
    dataset = load(config, ready)
    models = Models(config, ready.weights, loaded)
    # To look at images takes no models.
    chosen = [] if config.stage is Stage.data else augmentations(config, dataset, models)
    return Run(config, choices, overrides, ready, dataset, models, chosen)


def _augment(run: Run, console: Console) -> None:
    with _timed(run, "augment"):
        for augmentation in run.augmentations:
            augment(augmentation, run.config, run.dataset, run.models)
    for augmentation in run.augmentations:
        store = augmentation.generated
        console.print(f"{augmentation.recipe.method}: {store.rows:,} images in {store.folder}")
        if (kept := run.judgement(augmentation).kept()) is not None:
            dropped = len(kept) - int(kept.sum())
            console.print(f"{augmentation.recipe.method}: {dropped:,} dropped by the filter")


def _train(run: Run, console: Console) -> None:
    from sgid.reporting.loggers import training_loggers
    from sgid.stages.train import train, trained

    training = _training(run)
    if trained(training):
        return
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

    training = _training(run)
    metrics = trained(training)
    if metrics is None:
        raise ValueError(f"{run.folder} has no trained checkpoint; run stage=train, or stage=all")
    with _timed(run, "evaluate"):
        metrics |= evaluate_classifier(training, run.config, run.dataset, run.folder)
        summaries = evaluate_stores(
            run.augmentations, run.config, run.dataset, run.models, run.folder
        )
    if summaries:
        rows = sum(summary["images"] for summary in summaries)
        for name in ("cosine", "label_agreement", "diversity"):
            if all(summary[name] is not None for summary in summaries):
                total = sum(summary[name] * summary["images"] for summary in summaries)
                metrics[f"generated/{name}"] = total / rows
    stores = [s.folder for one in run.augmentations for s in (one.described, one.generated) if s]
    result = {
        "fingerprint": run.folder.name,
        "choices": run.choices,
        "overrides": run.overrides,
        "seed": run.config.seed,
        "config": run.settings,
        "protocol": run.dataset.protocol,
        "metrics": metrics,
        "generated": summaries,
        "seconds": run.seconds,
        "stores": [str(folder) for folder in stores],
        "versions": versions(),
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(run.folder / "spec.json", _json(run.spec))
    write_atomic(run.folder / "result.json", _json(result))


def _report(run: Run, console: Console) -> None:
    from sgid.reporting.loggers import log_finished
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
    from sgid.stages.train import prepare

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
    return prepare(run.config, dataset, generated, weights, run.folder)


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
