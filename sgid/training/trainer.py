"""Training and test of one classifier with Lightning, with errors as messages for the user."""

from __future__ import annotations

import csv
import io
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from sgid.reproducibility import derive_seed
from sgid.runtime.files import write_atomic
from sgid.runtime.terminal import quiet
from sgid.training.checkpoints import AtomicCheckpoints
from sgid.training.datamodule import seed_draws

if TYPE_CHECKING:
    from sgid.training.classifier import Classifier
    from sgid.training.datamodule import DataModule


ALLOCATORS = ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
"""Words in out-of-memory errors of PyTorch and CUDA that have no class of their own."""


def make_trainer(
    device: torch.device,
    precision: str,
    loggers: Sequence[Any] = (),
    *,
    devices: int = 1,
    callbacks: Sequence[pl.Callback],
    **options: Any,
) -> pl.Trainer:
    """Lightning trainer on one device, or in one of the `devices` processes that train together."""
    quiet()
    if precision == "auto":
        precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    own = [device.index] if device.type == "cuda" and device.index is not None else 1
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=own if devices == 1 else devices,
        # Buffers are averaged before each validation: a broadcast with each batch would be of the
        # first process alone, and waits for ever where one has fewer batches to score.
        strategy="auto" if devices == 1 else DDPStrategy(broadcast_buffers=False),
        use_distributed_sampler=False,  # the data module shares the batches out
        precision=precision,  # type: ignore[arg-type]
        logger=list(loggers) or False,
        # Also within a SLURM job, whose signals and tasks submitit handles.
        plugins=[LightningEnvironment(), AtomicCheckpoints()],
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


@contextmanager
def user_errors(data: DataModule, precision: str) -> Iterator[None]:
    """Translate errors of the trainer's loops into messages for the user.

    Raises:
        ValueError: if memory ran out; it names the options that take less.
        ChildProcessError: if a process that loads data died.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if text := _user_message(error, data, precision):
            kind = ValueError if _out_of_memory(error) else ChildProcessError
            raise kind(text) from error
        raise
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        if not _of_loading(error):
            raise
        raise ChildProcessError(_died(data, error)) from error


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(name in str(error) for name in ALLOCATORS)


def _user_message(error: BaseException, data: DataModule, precision: str) -> str | None:
    size = f"backbone.batch_size (now {data.batch_size})"
    what = str(error).strip().partition("\n")[0]
    if _out_of_memory(error):
        return (
            f"Memory ran out in training: lower {size} or backbone.image_size, or take "
            f"trainer.precision=bf16-mixed (now {precision}); each of them makes it another run. "
            f"({what or type(error).__name__})"
        )
    if "DataLoader worker" in what or "Pin memory thread exited" in what:
        return _died(data, error)
    return None


def _of_loading(error: BaseException) -> bool:
    """Whether an error arose in receiving a batch, from a loading process that was just dying."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return any(file.parts[-2:] == ("multiprocessing", "resource_sharer.py") for file in files)


def _died(data: DataModule, error: BaseException) -> str:
    what = str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
    return (
        f"A process that loads images died ({what}), most likely since memory ran "
        f"out: lower trainer.workers (now {data.workers}; 0 loads them in the process that "
        "trains). The same command goes on from the last checkpoint"
    )


@dataclass(frozen=True)
class Schedule:
    """Lengths of a training: `epochs` of `steps_per_epoch` steps, a validation after each."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def schedule(
    *, steps: int | None, epochs: int | None, originals: int, batch_size: int, validations: int
) -> Schedule:
    """Schedule with `validations` equal epochs.

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
    """Train, resuming from `folder`/last.ckpt if it is there; the metrics of the best epoch.

    The checkpoint with the best validation accuracy is `folder`/best.ckpt. With
    `devices` above 1 this is one of as many processes (`sgid.training.distributed`), of which the
    first leaves the files.

    Raises:
        ValueError: if memory ran out, or a loss is not finite.
        ChildProcessError: if a process that loads data died.
    """
    from pytorch_lightning.callbacks import ModelCheckpoint

    from sgid.training.checkpoints import resume_path

    watch = TrainingMonitor(data, plan.steps, on_step, on_epoch)
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
    last = resume_path(folder)
    started = time.perf_counter()
    with user_errors(data, precision):
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


def run_test(
    classifier: Classifier,
    data: DataModule,
    *,
    folder: Path,
    device: Any,
    precision: str,
    on_batch: Callable[[], object] | None = None,
) -> tuple[dict[str, float], list[int]]:
    """Test the best checkpoint: metrics and predicted labels."""
    import pytorch_lightning as pl
    import torch

    class Progress(pl.Callback):
        def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
            if on_batch:
                on_batch()

    trainer = make_trainer(device, precision, callbacks=[Progress()], enable_checkpointing=False)
    best = folder / "best.ckpt"
    with user_errors(data, precision):
        (metrics,) = trainer.test(classifier, data, best, verbose=False, weights_only=True)
    return dict(metrics), torch.cat(classifier.predictions).tolist()


def _synchronise(classifier: Classifier) -> None:
    """Synchronise batch norms over processes; on GPUs only.

    By timm: PyTorch's way, and so Lightning's, drops the activations in timm's norms.
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


EVERY = 50
"""Steps between checks of the losses: to check each makes a GPU wait for each."""


@final
class TrainingMonitor(pl.Callback):
    """Callback: per-epoch seeding, progress, metric history, and a check for NaN losses.

    Args:
        steps: of the whole training.
        on_step: called with the number of steps done, and `steps`.
        on_epoch: called with a row of the curves, `step` and the metrics by name.

    Raises:
        ValueError: from its hooks, if a loss is not finite.
    """

    def __init__(
        self,
        data: DataModule,
        steps: int,
        on_step: Callable[[int, int], object] | None,
        on_epoch: Callable[[dict[str, float]], object] | None,
    ) -> None:
        self.data = data
        self.steps = steps
        self.on_step = on_step
        self.on_epoch = on_epoch
        self.rows: list[dict[str, float]] = []
        self.first: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.began = time.perf_counter()
        if batch_idx == 0:  # dropout, Mixup: as augmentations, they go on where an epoch begins
            own = [trainer.global_rank] if trainer.world_size > 1 else []
            seed_draws(derive_seed(self.data.seed, "network", trainer.current_epoch, *own))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.first is None:
            self.first = time.perf_counter() - self.began
        if trainer.is_last_batch or (batch_idx + 1) % EVERY == 0:
            _check(torch.stack(pl_module.losses[-EVERY:]), trainer)
        if self.on_step:
            self.on_step(trainer.global_step, self.steps)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # The last step may have spoilt the weights; the checkpoints are saved after this.
        _check(trainer.callback_metrics["validation/loss"].reshape(1), trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"step": trainer.global_step, **metrics}
        self.rows = [*self.rows, row]
        if self.on_epoch:
            self.on_epoch(row)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


def _check(losses: torch.Tensor, trainer: pl.Trainer) -> None:
    """Raise if one of `losses`, (N,) of the last steps, is not finite."""
    values = losses.tolist()
    for index, value in enumerate(values):
        if not math.isfinite(value):
            step = trainer.global_step - len(values) + 1 + index
            rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
            raise ValueError(
                f"The loss is {value} at step {step}: lower "
                f"backbone.optimizer.lr (the learning rate is {rate:.2g} there), or take "
                f"trainer.precision=32-true (now {trainer.precision})"
            )
