"""Batches: the same number whatever the set, seeded by epoch."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from sgid.data.datamodule import DataModule


def make(count, *, epoch=0, seed=0, batch_size=8, steps=5):
    train = TensorDataset(torch.arange(count))
    data = DataModule(
        train, train, train, steps_per_epoch=steps, batch_size=batch_size, workers=0, seed=seed
    )
    data.trainer = SimpleNamespace(current_epoch=epoch)  # type: ignore[assignment]
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


def test_so_do_the_random_numbers_of_augmentations():
    numbers = []
    for epoch in (0, 0, 1):
        torch.rand(7)
        make(40, epoch=epoch).train_dataloader()
        numbers.append(torch.rand(4).tolist())
    assert numbers[0] == numbers[1] != numbers[2]


def test_scoring_sees_every_image_once_in_order():
    data = make(700)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert sum((batch[0].tolist() for batch in loader), []) == list(range(700))
