"""Training one classifier, and testing it once."""

from __future__ import annotations

import csv
import io
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.files import write_atomic
from sgid.quiet import quiet
from sgid.seeding import derive_seed

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
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train, going on from `folder`/last.ckpt where that is there; the metrics of the best epoch.

    The checkpoint with the best accuracy on the validation part is kept as `folder`/best.ckpt.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint

    from sgid.data.datamodule import seed_draws

    class Watch(pl.Callback):
        """Seeds and tells the steps, and keeps the metrics of each epoch with the checkpoint."""

        rows: list[dict[str, float]] = []
        first: float | None = None

        def on_train_batch_start(
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            self.began = time.perf_counter()
            if batch_idx == 0:  # dropout, Mixup: as augmentations, they go on where an epoch begins
                seed_draws(derive_seed(data.seed, "network", trainer.current_epoch))

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            if self.first is None:
                self.first = time.perf_counter() - self.began
            if on_step:
                on_step(trainer.global_step, plan.steps)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.rows = [*self.rows, {"step": trainer.global_step, **metrics}]

        def state_dict(self) -> dict[str, Any]:
            return {"rows": self.rows}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.rows = state_dict["rows"]

    watch = Watch()
    best = ModelCheckpoint(
        folder, "best", monitor="validation/top1", mode="max",
        save_weights_only=True, enable_version_counter=False,
    )  # fmt: skip
    # Not `save_last`, which saves nothing where an epoch is not the best so far.
    latest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    trainer = _trainer(
        device, precision, loggers,
        max_epochs=plan.epochs, callbacks=[watch, best, latest],
    )  # fmt: skip
    last = folder / "last.ckpt"
    started = time.perf_counter()
    try:
        trainer.fit(classifier, data, ckpt_path=str(last) if last.is_file() else None)
    except SystemExit as error:  # what Lightning makes of Ctrl+C, which it then goes on to ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from error
    assert best.best_model_score is not None
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

    class Watch(pl.Callback):
        def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
            if on_batch:
                on_batch()

    trainer = _trainer(device, precision, [], callbacks=[Watch()], enable_checkpointing=False)
    (metrics,) = trainer.test(classifier, data, ckpt_path=str(folder / "best.ckpt"), verbose=False)
    return dict(metrics), torch.cat(classifier.predictions).tolist()


def _write_curves(path: Path, rows: list[dict[str, float]]) -> None:
    names = sorted({name for row in rows for name in row} - {"step"})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["step", *names])
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, stream.getvalue().encode())


def _trainer(device: Any, precision: str, loggers: list[Any], **options: Any) -> Any:
    """A quiet Lightning trainer on one device."""
    import pytorch_lightning as pl

    quiet()
    if precision == "auto":
        precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1 if device.index is None or device.type != "cuda" else [device.index],
        precision=precision,  # type: ignore[arg-type]
        logger=loggers or False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
