"""`stage=train`: train one backbone on originals plus generated images."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.config.schema import BackboneConfig, TrainerConfig
from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.data.pixel_cache import prune
from sgid.models.weights import Weights
from sgid.records import Use
from sgid.reproducibility import derive_seed
from sgid.runtime.device import pick_device
from sgid.runtime.files import write_atomic
from sgid.runtime.terminal import progress
from sgid.training import checkpoints
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

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

RUNS = 4
"""Runs whose decoded images are left on the disk, at their largest."""


@dataclass(frozen=True)
class TrainingSettings:
    """The options of a training, with what they name made.

    Args:
        backbone: the section `backbone`.
        make_network, optimizer: the functions that its `model` and `optimizer` name.
        transforms: those of the augmentations, by slot: `base`, `online` and `batch`.
        mix: the use of images of methods that ask for none.
        trainer: the section `trainer`.
        decoded: the folder of decoded images, for all runs.
    """

    backbone: BackboneConfig
    make_network: Callable[..., Any]
    optimizer: Callable[..., Any]
    transforms: Mapping[str, list[Any]]
    mix: Use
    trainer: TrainerConfig
    seed: int
    decoded: Path


@dataclass(frozen=True)
class Training:
    """A classifier and its data, ready to be trained or tested."""

    classifier: Classifier
    data: DataModule
    plan: Schedule
    folder: Path
    settings: TrainingSettings

    @property
    def device(self) -> torch.device:
        return pick_device(self.settings.trainer.device)


def prepare(
    settings: TrainingSettings,
    dataset: Dataset,
    generated: Sequence[tuple[ImageSet, Use | None]],
    weights: Weights | None,
    folder: Path,
) -> Training:
    """Make the network, its optimizer and its data.

    `generated` are the images of each method with the use that it asks for; `folder` is where
    checkpoints go.
    """
    backbone, trainer, place = settings.backbone, settings.trainer, weights and weights.folder
    size = backbone.image_size or image_size(settings.make_network, place, dataset.train)
    base, online, batch = (settings.transforms[slot] for slot in ("base", "online", "batch"))
    plan = schedule(
        steps=backbone.steps,
        epochs=backbone.epochs,
        originals=len(dataset.train),
        batch_size=backbone.batch_size,
        validations=trainer.validations,
    )
    network = settings.make_network(
        class_names=dataset.phrases,
        image_size=size,
        weights=place,
        seed=derive_seed(settings.seed, "weights"),
    )
    classifier = Classifier(
        network,
        optimizer=settings.optimizer,
        trained=backbone.trained,
        layer_decay=backbone.layer_decay,
        steps=plan.steps,
        warmup=backbone.warmup,
        label_smoothing=backbone.label_smoothing,
        compile=trainer.compile,
        batch_transform=batch_transform(batch, len(dataset.class_names)),
        num_classes=len(dataset.class_names),
    )
    train = Mixed(
        dataset.train,
        [images for images, _ in generated],
        uses=[use or settings.mix for _, use in generated],
        transform=training_transform(size, online, base=base[0] if base else flip_crop),
        folder=settings.decoded,
    )
    whole = evaluation_transform(size)
    data = DataModule(
        train,
        Mixed(dataset.validation, transform=whole, folder=settings.decoded),
        Mixed(dataset.test, transform=whole, folder=settings.decoded),
        steps_per_epoch=plan.steps_per_epoch,
        steps=plan.steps,
        batch_size=backbone.batch_size,
        workers=_workers(trainer),
        seed=derive_seed(settings.seed, "training"),
    )
    return Training(classifier, data, plan, folder, settings)


def _workers(trainer: TrainerConfig) -> int:
    """Processes that load data, for each device. On a CPU they would take cores from training."""
    if trainer.workers != "auto":
        return int(trainer.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = max(1, (cores or 1) // trainer.devices)
    return min(8, share) if pick_device(trainer.device).type == "cuda" else 0


def keep_decoded(training: Training, *parts: str) -> None:
    """Decode the images of these splits, as far as `trainer.cache_gib` holds those of all."""
    left = limit = training.settings.trainer.cache_gib * 2**30
    for name, images in training.data.parts.items():
        left -= images.keep(left) if name in parts else images.bytes_kept
    prune(training.settings.decoded, RUNS * limit)


def train(training: Training, loggers: list[Any]) -> dict[str, float]:
    """Fit, and leave the best checkpoint and `train.json` behind."""
    keep_decoded(training, "train", "validation")
    settings = {
        "plan": training.plan,
        "folder": training.folder,
        "device": training.device,
        "precision": training.settings.trainer.precision,
    }
    with progress("train", training.plan.steps, "steps") as bar:

        def advance(step: int, steps: int) -> None:
            bar.update(step - bar.n)

        def tell(row: dict[str, float]) -> None:
            for logger in loggers:
                metrics = {name: value for name, value in row.items() if name != "step"}
                logger.log_metrics(metrics, int(row["step"]))

        parts = training.classifier, training.data
        if (devices := training.settings.trainer.devices) > 1:
            # What is open for the loggers is here: the other processes hand over their metrics.
            metrics = fit_together(devices, *parts, **settings, on_step=advance, on_epoch=tell)
        else:
            metrics = fit(*parts, **settings, loggers=loggers, on_step=advance)
    write_atomic(training.folder / "train.json", json.dumps(metrics, indent=2).encode())
    return metrics


def trained(checkpoints_folder: Path) -> dict[str, float] | None:
    """The metrics of a training that has ended and left a whole checkpoint, else `None`."""
    path, best = checkpoints_folder / "train.json", checkpoints_folder / "best.ckpt"
    if not path.is_file():
        return None
    if checkpoints.intact(best):
        with suppress(ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
    log.warning("%s or %s is damaged or gone: it counts as not trained", path, best.name)
    return None


def content(checkpoints_folder: Path) -> str:
    """Hash of the weights of a training that has ended: the same for the same bits."""
    return checkpoints.content(checkpoints_folder / "best.ckpt")
