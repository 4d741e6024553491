"""Batches: the same number whatever the set, seeded by epoch."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from sgid.training.datamodule import DataModule


def make(count, *, epoch=0, seed=0, batch_size=8, steps=5, workers=0, train=None, rank=0, world=1):
    train = train or TensorDataset(torch.arange(count))
    data = DataModule(
        *(train, train, train),
        steps_per_epoch=steps, batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    trainer = {"global_step": epoch * steps, "global_rank": rank, "world_size": world}
    data.trainer = SimpleNamespace(**trainer)  # type: ignore[assignment]
    return data


def drawn(data):
    return [batch[0].tolist() for batch in data.train_dataloader()]


@pytest.mark.parametrize("count", [3, 8, 40, 41, 1000])
def test_an_epoch_has_the_same_number_of_full_batches_whatever_the_set(count):
    assert [len(batch) for batch in drawn(make(count))] == [8] * 5


def test_nothing_is_drawn_again_before_all_is_used_up():
    indices = sum(drawn(make(16)), [])  # 40 of 16: twice all, and half
    assert sorted(indices[:16]) == sorted(indices[16:32]) == list(range(16))
    assert len(set(indices[32:])) == 8


def test_order_follows_from_seed_and_epoch():
    assert drawn(make(40)) == drawn(make(40))
    assert drawn(make(40)) != drawn(make(40, epoch=1))
    assert drawn(make(40)) != drawn(make(40, seed=1))


class Draws(Dataset):
    """What an item draws from each of the generators that augmentations use."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.rand(()).item(), random.random(), np.random.rand()


def draws(**options):
    data = make(40, train=Draws(), **options)
    return [torch.stack(batch, 1) for batch in data.train_dataloader()]  # (8, 3) each


def test_so_does_what_augmentations_draw():
    first = torch.cat(draws())
    assert all(len(first[:, kind].unique()) == 40 for kind in range(3))  # each image its own
    torch.rand(7), random.random(), np.random.rand()
    assert torch.equal(first, torch.cat(draws()))
    for other in ({"epoch": 1}, {"seed": 1}):
        assert not (first == torch.cat(draws(**other))).any()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_is_of_no_matter(workers):
    assert torch.equal(torch.stack(draws()), torch.stack(draws(workers=workers)))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_network_draws_is_left_alone(workers):
    def numbers():
        return torch.rand(()).item(), random.random(), float(np.random.rand())

    def after(disturb):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        disturb()
        return numbers()

    data = make(40, train=Draws(), workers=workers)
    assert after(lambda: list(data.train_dataloader())) == after(lambda: None)
    assert after(lambda: list(data.val_dataloader())) == (after(lambda: None) if workers else
        after(lambda: [Draws()[i] for i in range(40)]))  # fmt: skip


def test_epochs_of_one_loader_are_those_of_a_new_one():
    """Worker processes live on from epoch to epoch; a training that is resumed starts new ones."""
    loader = make(40, workers=2).train_dataloader()
    told = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        told.append([batch[0].tolist() for batch in loader])
    assert told == [drawn(make(40, epoch=epoch)) for epoch in range(3)]


def test_scoring_sees_every_image_once_in_order():
    data = make(700)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert sum((batch[0].tolist() for batch in loader), []) == list(range(700))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_out_the_batches_that_one_would_have(world):
    shares = [drawn(make(41, rank=rank, world=world)) for rank in range(world)]
    assert all(len(batch) == 8 // world for share in shares for batch in share)
    together = [sorted(sum(batches, [])) for batches in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in drawn(make(41))]


def test_each_process_draws_its_own():
    one, other = (torch.cat(draws(rank=rank, world=2)) for rank in range(2))
    assert len(torch.cat([one, other])[:, 0].unique()) == 40
    assert all((one[:, kind] != other[:, kind]).all() for kind in range(3))
    assert torch.equal(one, torch.cat(draws(rank=0, world=2)))


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("count", [7, 20, 257, 700, 2049])
def test_processes_score_every_image_once_and_none_is_left_without(count, world):
    shares = []
    for rank in range(world):
        loader = make(count, rank=rank, world=world).val_dataloader()
        shares.append(sum((batch[0].tolist() for batch in loader), []))
    assert all(shares)
    assert sorted(sum(shares, [])) == list(range(count))
