"""The LightningModule: one classifier, its loss and its metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgid.training.backbones import (
    TRAINED,
    freeze_all_but_head,
    head,
    make_optimizer,
    normalisation,
)


@final
class Classifier(pl.LightningModule):
    """A classifier that trains `network` on uint8 batches (B, 3, H, W) with labels.

    Labels are integers (B,), or shares of the classes (B, C); loss weights (B,), whose mean over
    the training is 1, may come third.

    Args:
        optimizer: from parameters, or groups of them, to an optimizer.
        trained: `all`, or `head`: the rest is frozen and stays in evaluation mode, so that its
            running statistics do not move either.
        layer_decay: see `make_optimizer`.
        steps: optimizer steps of the whole training; the learning rate follows a cosine to 0.
        warmup: share of the steps in which the learning rate rises linearly.
        compile: `torch.compile` the network for the training steps; it is scored as it is.
        batch_transform: mixes a normalised batch and its labels (Mixup, CutMix), or `None`. Loss
            weights are mixed as the labels are.
        num_classes: C.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: Callable[[Any], torch.optim.Optimizer],
        trained: str,
        layer_decay: float | None,
        steps: int,
        warmup: float,
        label_smoothing: float,
        compile: bool = False,
        batch_transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
        num_classes: int,
    ) -> None:
        super().__init__()
        if trained not in TRAINED:
            raise ValueError(f"backbone.trained={trained}: must be one of {', '.join(TRAINED)}")
        self.network = network.to(memory_format=torch.channels_last)
        self.optimizer = optimizer
        self.layer_decay = layer_decay
        self.head_only = trained == "head"
        if self.head_only:
            freeze_all_but_head(network)
        self.steps = steps
        self.warmup = warmup
        self.label_smoothing = label_smoothing
        self.batch_transform = batch_transform
        self.num_classes = num_classes
        mean, std = normalisation(network)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)
        self.losses: list[Tensor] = []
        self.sums = torch.zeros(3)  # of accuracies, losses and images, over what is scored
        self.predictions: list[Tensor] = []
        self.compiled = compile
        if compile:
            network.compile(dynamic=False)  # in place: the names of the weights stay as they are
        self.train()  # Lightning does not change the modes

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.head_only:
            self.network.eval()
            head(self.network).train(mode)
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise uint8 images (B, 3, H, W) to floats of mean 0 and deviation 1 per channel."""
        pixels = (images.float() - self.mean) / self.std
        own = next(self.network.parameters()).dtype  # float16 or bfloat16 in "true" half precision
        return pixels.to(own).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, classes) of uint8 images (B, 3, H, W)."""
        return self.network.forward(self.normalise(images))  # not what may be compiled

    def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
        images, labels, *rest = batch
        pixels, weights = self.normalise(images), rest[0] if rest else None
        if self.batch_transform is not None:
            if weights is not None:
                shares = labels if labels.ndim == 2 else F.one_hot(labels, self.num_classes)
                labels = shares * weights[:, None]
            pixels, labels = self.batch_transform(pixels, labels)
            if weights is not None:
                weights = labels.sum(1)
                labels = labels / weights[:, None]
        logits = self.network(pixels)
        if weights is not None:
            losses = F.cross_entropy(
                logits, labels, label_smoothing=self.label_smoothing, reduction="none"
            )
            loss = (losses * weights).mean()
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.losses.append(loss.detach())  # Lightning's `log` is slow, and batches are of one size
        return loss

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self.trainer.is_last_batch:
            loss = torch.stack(self.losses).mean()  # processes have equal parts of each batch
            self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
            self.losses = []

    def on_validation_start(self) -> None:
        """Average the statistics of batch norms over processes: each saw its own images."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.trainer.strategy.reduce(buffer.clone(), reduce_op="mean"))

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(3, device=self.device)

    def validation_step(self, batch: Sequence[Tensor], index: int) -> None:
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("validation")

    def on_test_epoch_start(self) -> None:
        self.sums = torch.zeros(3, device=self.device)
        self.predictions = []

    def test_step(self, batch: Sequence[Tensor], index: int) -> None:
        self.predictions.append(self._score(batch).argmax(1).cpu())

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _score(self, batch: Sequence[Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images)
        top1 = (logits.argmax(1) == labels).float().mean() * 100
        means = torch.stack([top1, F.cross_entropy(logits, labels).float(), torch.ones_like(top1)])
        self.sums += means * len(images)
        return logits

    def _log_scores(self, part: str) -> None:
        """Log means over all images. Lightning's weigh processes equally, whatever their counts."""
        top1, loss, images = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
        self.log(f"{part}/top1", top1 / images)
        self.log(f"{part}/loss", loss / images)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.network, self.optimizer, layer_decay=self.layer_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """Factor of the learning rate: linear warm-up, then half a cosine.

        Loshchilov & Hutter, 2017.
        """
        rise = max(1, round(self.warmup * self.steps))
        if step < rise:
            return (step + 1) / rise
        progress = (step - rise) / max(1, self.steps - rise)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
