"""Training one classifier, and testing it once."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.runtime.files import write_atomic

if TYPE_CHECKING:
    from sgid.data.datamodule import DataModule
    from sgid.training.module import Classifier


@dataclass(frozen=True)
class Schedule:
    """`epochs` Lightning epochs of `steps_per_epoch` optimizer steps, a validation after each."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def schedule(
    *, steps: int | None, epochs: int | None, originals: int, batch_size: int, validations: int
) -> Schedule:
    """Optimizer steps, cut into `validations` equal pieces.

    `epochs` counts passes over the originals alone, so that arms with generated images get the
    same number of steps as arms without.
    """
    if (steps is None) == (epochs is None):
        raise ValueError(
            f"backbone.steps={steps} and backbone.epochs={epochs}: give exactly one of them"
        )
    if steps is None:
        steps = (epochs or 0) * math.ceil(originals / batch_size)
    if steps < 1 or validations < 1:
        raise ValueError(
            f"{steps} training steps and {validations} validations: both must be at least 1"
        )
    validations = min(validations, steps)
    return Schedule(epochs=validations, steps_per_epoch=math.ceil(steps / validations))


def fit(
    classifier: Classifier,
    data: DataModule,
    *,
    plan: Schedule,
    folder: Path,
    device: Any,
    precision: str,
    loggers: list[Any],
    devices: int = 1,
    on_step: Callable[[int, int], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
) -> dict[str, float]:
    """Train, going on from `folder`/last.ckpt where that is there; the metrics of the best epoch.

    The checkpoint with the best accuracy on the validation part is kept as `folder`/best.ckpt. With
    `devices` above 1 this is one of as many processes (`sgid.training.processes`), of which the
    first leaves the files.

    Raises:
        ValueError: if memory ran out, or a loss is not finite.
        ChildProcessError: if a process that loads data died.
    """
    from pytorch_lightning.callbacks import ModelCheckpoint

    from sgid.training.checkpoints import resumable
    from sgid.training.trainer import make_trainer, running
    from sgid.training.watch import Watch

    watch = Watch(data, plan.steps, on_step, on_epoch)
    best = ModelCheckpoint(
        folder, "best", monitor="validation/top1", mode="max",
        save_weights_only=True, enable_version_counter=False,
    )  # fmt: skip
    # Not `save_last`, which saves nothing where an epoch is not the best so far.
    latest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    if devices > 1 and device.type == "cuda":
        _synchronise(classifier)
    trainer = make_trainer(
        device, precision, loggers,
        devices=devices, max_epochs=plan.epochs, callbacks=[watch, best, latest],
    )  # fmt: skip
    last = resumable(folder)
    started = time.perf_counter()
    with running(data, precision):
        trainer.fit(classifier, data, ckpt_path=last, weights_only=True)
    assert best.best_model_score is not None
    if trainer.is_global_zero:
        _write_curves(folder.parent / "curves.csv", watch.rows)
    metrics = {
        "validation/top1": float(best.best_model_score),
        "train/steps": float(trainer.global_step),
        "train/seconds": time.perf_counter() - started,
    }
    if classifier.compiled and watch.first is not None:
        metrics["train/compile_seconds"] = watch.first
    return metrics


def test(
    classifier: Classifier,
    data: DataModule,
    *,
    folder: Path,
    device: Any,
    precision: str,
    on_batch: Callable[[], object] | None = None,
) -> tuple[dict[str, float], list[int]]:
    """Metrics and predicted labels of the best checkpoint on the test part."""
    import pytorch_lightning as pl
    import torch

    from sgid.training.trainer import make_trainer, running

    class Tell(pl.Callback):
        def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
            if on_batch:
                on_batch()

    trainer = make_trainer(device, precision, callbacks=[Tell()], enable_checkpointing=False)
    best = folder / "best.ckpt"
    with running(data, precision):
        (metrics,) = trainer.test(classifier, data, best, verbose=False, weights_only=True)
    return dict(metrics), torch.cat(classifier.predictions).tolist()


def _synchronise(classifier: Classifier) -> None:
    """Have batch norms take the statistics of all processes' images together; on GPUs alone.

    By timm's way: PyTorch's, and so Lightning's, drops the activations that timm's norms hold.
    """
    from timm.layers import convert_sync_batchnorm  # pyright: ignore[reportPrivateImportUsage]

    classifier.network = convert_sync_batchnorm(classifier.network)


def _write_curves(path: Path, rows: list[dict[str, float]]) -> None:
    names = sorted({name for row in rows for name in row} - {"step"})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["step", *names])
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, stream.getvalue().encode())
