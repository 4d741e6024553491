"""What is looked after during a training: seeds, its steps, its metrics, and that it is sane."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import pytorch_lightning as pl
import torch

from sgid.data.datamodule import seed_draws
from sgid.reproducibility import derive_seed

if TYPE_CHECKING:
    from sgid.data.datamodule import DataModule

EVERY = 50
"""Steps after which losses are looked at: to look at each makes a GPU wait for each."""


@final
class Watch(pl.Callback):
    """Seeds and tells the steps, and keeps the metrics of each epoch with the checkpoint.

    Args:
        steps: of the whole training.
        on_step: told the number of the step that is done, and `steps`.
        on_epoch: told a row of the curves, `step` and the metrics by name.

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
    """`losses`: (N,), of the last steps."""
    values = losses.tolist()
    for index, value in enumerate(values):
        if not math.isfinite(value):
            step = trainer.global_step - len(values) + 1 + index
            rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
            raise ValueError(
                f"The loss is {value} at step {step}, and no training: lower "
                f"backbone.optimizer.lr (the learning rate is {rate:.2g} there), or take "
                f"trainer.precision=32-true (now {trainer.precision})"
            )
