"""`stage=train`: train one backbone on originals plus generated images."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from sgid.config.schema import Config, TrainerConfig, in_slot
from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.data.pixel_cache import prune
from sgid.models.weights import Weights
from sgid.reproducibility import derive_seed
from sgid.runtime.device import pick_device
from sgid.runtime.files import write_atomic
from sgid.runtime.terminal import progress
from sgid.training import checkpoints
from sgid.training import checkpoints as contents
from sgid.training.backbones import image_size
from sgid.training.classifier import Classifier
from sgid.training.datamodule import DataModule
from sgid.training.distributed import fit_together
from sgid.training.mixing import Mixed
from sgid.training.trainer import Schedule, fit, schedule
from sgid.training.transforms import (
    batch_transform,
    evaluation_transform,
    flip_crop,
    training_transform,
)

log = logging.getLogger(__name__)

RUNS = 4
"""Runs whose decoded images are left on the disk, at their largest."""


@dataclass(frozen=True)
class Training:
    """A classifier and its data, ready to be trained or tested."""

    classifier: Classifier
    data: DataModule
    plan: Schedule
    folder: Path


def prepare(
    config: Config,
    dataset: Dataset,
    generated: list[ImageSet],
    weights: Weights | None,
    folder: Path,
) -> Training:
    """Instantiate backbone, transforms and data; `folder` is where checkpoints go."""
    backbone, trainer = config.backbone, config.trainer
    size = image_size(backbone, weights, dataset.train)
    base, online, batch = (transforms(config, slot) for slot in ("base", "online", "batch"))
    plan = schedule(
        steps=backbone.steps,
        epochs=backbone.epochs,
        originals=len(dataset.train),
        batch_size=backbone.batch_size,
        validations=trainer.validations,
    )
    network = instantiate(backbone.model)(
        class_names=dataset.phrases,
        image_size=size,
        weights=weights.folder if weights else None,
        seed=derive_seed(config.seed, "weights"),
    )
    classifier = Classifier(
        network,
        optimizer=instantiate(backbone.optimizer),
        trained=backbone.trained,
        layer_decay=backbone.layer_decay,
        steps=plan.steps,
        warmup=backbone.warmup,
        label_smoothing=backbone.label_smoothing,
        compile=trainer.compile,
        batch_transform=batch_transform(batch, len(dataset.class_names)),
    )
    decoded = Path(config.paths.artifacts) / "decoded"
    train = Mixed(
        dataset.train,
        generated,
        transform=training_transform(size, online, base=base[0] if base else flip_crop),
        folder=decoded,
        **asdict(config.mix),
    )
    whole = evaluation_transform(size)
    data = DataModule(
        train,
        Mixed(dataset.validation, transform=whole, folder=decoded),
        Mixed(dataset.test, transform=whole, folder=decoded),
        steps_per_epoch=plan.steps_per_epoch,
        batch_size=backbone.batch_size,
        workers=_workers(trainer),
        seed=derive_seed(config.seed, "training"),
    )
    return Training(classifier, data, plan, folder / "checkpoints")


def _workers(trainer: TrainerConfig) -> int:
    """Processes that load data, for each device. Beside a CPU's training they would take cores."""
    if trainer.workers != "auto":
        return int(trainer.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = max(1, (cores or 1) // trainer.devices)
    return min(8, share) if pick_device(trainer.device).type == "cuda" else 0


def keep_decoded(training: Training, config: Config, *parts: str) -> None:
    """Decode the images of these parts, as far as `trainer.cache_gib` holds those of all parts."""
    left = limit = config.trainer.cache_gib * 2**30
    for name, images in training.data.parts.items():
        left -= images.keep(left) if name in parts else images.bytes_kept
    prune(Path(config.paths.artifacts) / "decoded", RUNS * limit)


def train(training: Training, config: Config, loggers: list[Any]) -> dict[str, float]:
    """Fit, and leave the best checkpoint and `train.json` behind."""
    keep_decoded(training, config, "train", "validation")
    settings = {
        "plan": training.plan,
        "folder": training.folder,
        "device": pick_device(config.trainer.device),
        "precision": config.trainer.precision,
    }
    with progress("train", training.plan.steps, "steps") as bar:

        def advance(step: int, steps: int) -> None:
            bar.update(step - bar.n)

        def tell(row: dict[str, float]) -> None:
            for logger in loggers:
                metrics = {name: value for name, value in row.items() if name != "step"}
                logger.log_metrics(metrics, int(row["step"]))

        parts = training.classifier, training.data
        if (devices := config.trainer.devices) > 1:
            # What is open for the loggers is here: the other processes hand over their metrics.
            metrics = fit_together(devices, *parts, **settings, on_step=advance, on_epoch=tell)
        else:
            metrics = fit(*parts, **settings, loggers=loggers, on_step=advance)
    write_atomic(training.folder / "train.json", json.dumps(metrics, indent=2).encode())
    return metrics


def trained(training: Training) -> dict[str, float] | None:
    """The metrics of a training that has ended and left a whole checkpoint, else `None`."""
    path, best = training.folder / "train.json", training.folder / "best.ckpt"
    if not path.is_file():
        return None
    if checkpoints.intact(best):
        with suppress(ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
    log.warning("%s or %s is damaged or gone: it counts as not trained", path, best.name)
    return None


def content(training: Training) -> str:
    """Of the weights of a training that has ended: equal where they are equal to the bit."""
    return contents.content(training.folder / "best.ckpt")


def transforms(config: Config, slot: str) -> list[Any]:
    """What the augmentations of `base`, `online` or `batch` name as their transform."""
    return [instantiate(entry["transform"]) for entry in in_slot(config, slot).values()]
