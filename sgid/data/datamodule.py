"""The Lightning data module: seeded, resumable training epochs, and the parts to score."""

from __future__ import annotations

import random
from functools import partial
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from sgid.seeding import derive_seed


@final
class DataModule(pl.LightningDataModule):
    """Every arm of a comparison gets the same number of batches, however many images it has.

    A Lightning epoch is `steps_per_epoch` batches, drawn without replacement until the set is used
    up, and again. Order and augmentations of an epoch follow from the seed and its number, so that
    a training that is resumed goes on as it would have.
    """

    def __init__(
        self,
        train: Dataset,
        validation: Dataset,
        test: Dataset,
        *,
        steps_per_epoch: int,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.parts: dict[str, Any] = {"train": train, "validation": validation, "test": test}
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader:
        epoch = self.trainer.current_epoch if self.trainer else 0
        seed = derive_seed(self.seed, "epoch", epoch)
        _seed_augmentations(seed)
        generator = torch.Generator().manual_seed(seed)
        count = self.steps_per_epoch * self.batch_size
        order = RandomSampler(self.parts["train"], num_samples=count, generator=generator)
        # Lightning makes more iterators of a loader when it resumes, and each one draws a number:
        # so the order is drawn now, once, and the loader has a generator of its own to draw from.
        return self._loader(
            "train",
            sampler=list(order),
            generator=generator,
            worker_init_fn=partial(_seed_augmentations, seed),
        )

    def val_dataloader(self) -> DataLoader:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def _loader(self, part: str, **options) -> DataLoader:
        size = self.batch_size if part == "train" else max(256, self.batch_size)
        return DataLoader(
            self.parts[part],
            batch_size=size,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def _seed_augmentations(seed: int, *worker: int) -> None:
    """Seed what augmentations draw from: torchvision's from torch, others from Python or NumPy."""
    seed = derive_seed(seed, "augmentations", *worker)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
