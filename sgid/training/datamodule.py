"""Lightning data module: seeded, resume_path training epochs, validation and test."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterable, Iterator, Sized
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    default_collate,
)

from sgid.reproducibility import derive_seed


@final
class DataModule(pl.LightningDataModule):
    """Batches for training, validation and test; the same number of steps for every arm.

    A Lightning epoch is `steps_per_epoch` batches, drawn without replacement until the set is used
    up, and again. Each batch of an epoch has a seed of its own for its augmentations. Order and
    seeds follow from the seed of the run and the number of the epoch, so that a training that is
    resumed goes on as it would have, and the number of workers changes nothing.

    A training set with a `progress` is told the share of all `steps` that is done at each batch.

    Of `world` processes that train together, the one of `rank` has every `world`-th image of each
    batch, with seeds of its own, and scores every `world`-th batch: each image once.
    """

    def __init__(
        self,
        train: Any,
        validation: Any,
        test: Any,
        *,
        steps_per_epoch: int,
        batch_size: int,
        workers: int,
        seed: int,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.parts: dict[str, Any] = {"train": train, "validation": validation, "test": test}
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader:
        train = self.parts["train"]
        order = _EpochSampler(
            train, self.steps_per_epoch, self.batch_size, self.seed,
            rank=self.rank, of=self.world, total=self.steps or self.steps_per_epoch,
        )  # fmt: skip
        # Lightning calls `set_epoch` too, but for the first epoch only after it has asked for
        # batches, and counts epochs wrongly before that.
        order.set_epoch(self.trainer.global_step // self.steps_per_epoch if self.trainer else 0)
        return self._loader(_SeededBatches(train), sampler=order)

    @property
    def rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def val_dataloader(self) -> DataLoader:
        return self._scored("validation")

    def test_dataloader(self) -> DataLoader:
        return self._scored("test")

    def _scored(self, part: str) -> DataLoader:
        images, size = self.parts[part], max(256, self.batch_size)
        if self.world > 1:  # Lightning would wait for a process that has no batch
            size = min(size, max(1, len(images) // self.world))
        in_order = BatchSampler(SequentialSampler(images), size, drop_last=False)
        own = list(in_order)[self.rank :: self.world]
        return self._loader(_Batches(images), sampler=own)

    def _loader(self, part: Dataset, sampler: Iterable) -> DataLoader:
        """Loader of `part`, whose items are batches; `sampler` yields the indices of each."""
        return DataLoader(
            part,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_to_the_job if "SLURM_JOB_ID" in os.environ else None,
            # A loader draws a number for every iterator: not from the network's generator.
            generator=torch.Generator(),
        )


def _leave_to_the_job(worker: int) -> None:
    """Ignore signals in a loading process: SLURM sends them to all processes of a job.

    The process that trains has handlers for them: a run that is put back into the queue must not
    fail since its loading processes died.
    """
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)


def seed_draws(seed: int) -> None:
    """Seed the random numbers of networks, Mixup and CutMix, on all devices."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@final
class _EpochSampler(Sampler):
    """Batch sampler of an epoch: for each batch one process's indices, a seed, and the share of all
    `total` batches that come before it.
    """

    def __init__(
        self, data: Sized, steps: int, batch_size: int, seed: int, *, rank: int, of: int, total: int
    ) -> None:
        self.total = total
        self.data = data
        self.steps = steps
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = of
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[list[int], int, float]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", self.epoch))
        count = self.steps * self.batch_size
        order = list(RandomSampler(self.data, num_samples=count, generator=generator))
        seeds = torch.randint(2**32, (self.steps,), generator=generator).tolist()
        starts = range(0, count, self.batch_size)
        batches = [order[start : start + self.batch_size] for start in starts]
        if self.world > 1:
            batches = [batch[self.rank :: self.world] for batch in batches]
            seeds = [derive_seed(seed, "rank", self.rank) % 2**32 for seed in seeds]
        done = self.epoch * self.steps
        shares = [(done + batch) / self.total for batch in range(self.steps)]
        return zip(batches, seeds, shares, strict=True)


@final
class _Batches(Dataset):
    """Dataset whose items are batches of `data`."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __getitem__(self, indices: list[int]) -> Any:
        return _batch(self.data, indices)


@final
class _SeededBatches(Dataset):
    """Dataset whose items are batches of `data`, augmented with the seed given with the indices."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __getitem__(self, batch: tuple[list[int], int, float]) -> Any:
        indices, seed, progress = batch
        if hasattr(self.data, "progress"):
            self.data.progress = progress
        # Without workers this is the process in which dropout and Mixup draw.
        with isolate_rng(include_cuda=False):
            # torchvision's augmentations draw from torch, others from Python or NumPy. Not
            # `torch.manual_seed`, which seeds all devices and would not be undone there.
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            return _batch(self.data, indices)


def _batch(data: Any, indices: list[int]) -> Any:
    """Collate a batch; by `data.batch`, where it has that faster way."""
    if hasattr(data, "batch"):
        return data.batch(indices)
    return default_collate([data[index] for index in indices])
