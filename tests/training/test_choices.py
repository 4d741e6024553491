"""Every perturbation of `conf/aug/`, alone and with others, as training has it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import yaml
from torchvision.transforms import v2

from sgid.config.compose import CONF
from sgid.data.image_set import ImageSet
from sgid.training.datamodule import DataModule
from sgid.training.mixing import Mixed
from sgid.training.transforms import batch_transform, flip_crop, training_transform
from tests.data.writers import encoded

SLOTS = {
    name: entry["slot"]
    for file in sorted(CONF.glob("aug/*.yaml"))
    for name, entry in yaml.safe_load(file.read_text(encoding="utf-8")).items()
    if isinstance(entry, dict) and entry.get("slot") in ("base", "online", "batch")
}
ONLINE = [name for name, slot in SLOTS.items() if slot == "online"]


def transform_of(make, names: list[str], size: int = 32):
    made = [make(name) for name in names]
    base = [transform for slot, transform in made if slot == "base"]
    online = [transform for slot, transform in made if slot == "online"]
    return training_transform(size, online, base=base[0] if base else flip_crop)


def test_all_are_here():
    assert SLOTS == {
        "none": "base", "flip_crop": "base", "cutout": "online", "random_erasing": "online",
        "gridmask": "online", "autoaugment": "online", "randaugment": "online",
        "trivialaugment": "online", "augmix": "online", "mixup": "batch", "cutmix": "batch",
    }  # fmt: skip


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("size", [32, 224])
def test_each_gives_a_new_image_of_the_same_size(make, coloured, name, size):
    _, transform = make(name)
    torch.manual_seed(0)
    image = coloured[3].resize((size, size))
    before = image.tobytes()
    results = [transform(image) for _ in range(12)]
    assert all(result.size == (size, size) and result.mode == "RGB" for result in results)
    assert len({result.tobytes() for result in results}) > 4
    assert image.tobytes() == before  # it may be in the cache


@pytest.mark.parametrize("name", [*SLOTS])
def test_each_can_be_sent_to_a_worker(make, name):
    _, transform = make(name)
    assert type(pickle.loads(pickle.dumps(transform))) is type(transform)


def data_module(transform, image, workers: int = 0) -> DataModule:
    """Eight times one image, so that all that differs in a batch is what was drawn."""
    data = encoded(image)
    rows = tuple(range(8))
    images = ImageSet(tuple(map(str, rows)), (0,) * 8, rows, ("a",), rows, lambda row: data)
    train = Mixed(images, transform=transform)
    return DataModule(train, train, train, steps_per_epoch=1, batch_size=8, workers=workers, seed=4)


def batch_of(data: DataModule) -> torch.Tensor:
    ((images, _),) = list(data.train_dataloader())
    return images


@pytest.mark.parametrize("name", ONLINE)
def test_each_image_of_a_batch_has_its_own_draw_and_the_seed_repeats_it(make, coloured, name):
    transform = transform_of(make, ["none", name])
    batch = batch_of(data_module(transform, coloured[4]))
    assert len(torch.unique(batch, dim=0)) >= 4
    torch.rand(5), np.random.rand(5)  # what was drawn before is of no matter
    assert torch.equal(batch, batch_of(data_module(transform, coloured[4])))


@pytest.mark.parametrize("names", [[*ONLINE], ["augmix"], ["randaugment", "random_erasing"]])
def test_workers_give_the_same(make, coloured, names):
    transform = transform_of(make, names)
    one, *others = (batch_of(data_module(transform, coloured[5], count)) for count in (0, 1, 3))
    assert all(torch.equal(one, other) for other in others) and len(torch.unique(one, dim=0)) == 8


def test_none_has_no_draws_and_any_other_has_flips_and_crops(make, coloured):
    image = coloured[6]
    batch = batch_of(data_module(transform_of(make, ["none"]), image))
    assert (batch == v2.functional.pil_to_tensor(image)).all()
    batch = batch_of(data_module(transform_of(make, []), image))
    assert len(torch.unique(batch, dim=0)) == 8


@pytest.mark.parametrize(
    "names",
    [
        ["trivialaugment", "mixup"],
        ["autoaugment", "cutout"],
        ["gridmask", "random_erasing", "mixup", "cutmix"],
        ["none", "augmix", "cutmix"],
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_they_combine_in_any_order(make, coloured, names, backwards):
    names = names[::-1] if backwards else names
    images = batch_of(data_module(transform_of(make, names), coloured[7]))
    assert images.shape == (8, 3, 32, 32) and images.dtype == torch.uint8
    batch = [transform for slot, transform in map(make, names) if slot == "batch"]
    if batch:
        mixed, labels = batch_transform(batch, 8)(images.float(), torch.arange(8))
        assert mixed.shape == images.shape and labels.shape == (8, 8)


def test_online_ones_run_in_the_order_given(make, coloured):
    """Cutout after AutoAugment leaves its colour alone; before it, the others change it too."""
    fill = torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1, 1)

    def hidden(names: list[str]) -> list[int]:
        torch.manual_seed(0)
        transform = transform_of(make, ["none", *names])
        return [int((transform(coloured[0]) == fill).all(0).sum()) for _ in range(40)]

    assert min(hidden(["trivialaugment", "cutout"])) >= 64  # a quarter of the square at least
    assert min(hidden(["cutout", "trivialaugment"])) == 0
