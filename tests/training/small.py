"""A training of seconds in which everything draws, and what it leaves."""

import csv
from functools import partial

import torch
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from sgid.training.backbones import small_resnet
from sgid.training.classifier import Classifier
from sgid.training.datamodule import DataModule
from sgid.training.mixing import Mixed
from sgid.training.trainer import Schedule, fit
from sgid.training.transforms import batch_transform, training_transform

PLAN = Schedule(epochs=3, steps_per_epoch=4)
CPU = torch.device("cpu")


def random_part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return TensorDataset(images, torch.randint(0, 10, (count,), generator=generator))


def make(fashion, *, seed=1, workers=0, network=None, trained="all", layer_decay=None, **options):
    """All that draws random numbers: order, crops, RandAugment, Mixup or CutMix, dropout."""
    network = network or small_resnet(
        class_names=range(10), image_size=32, weights=None, seed=0, width=8
    )
    network.drop_rate = 0.3
    mix = [partial(v2.MixUp, alpha=0.4), partial(v2.CutMix, alpha=1.0)]
    classifier = Classifier(
        network,
        optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        trained=trained,
        layer_decay=layer_decay,
        steps=PLAN.steps,
        warmup=0.1,
        label_smoothing=0.1,
        **options,
        batch_transform=batch_transform(mix, 10),
        num_classes=10,
    )
    data = DataModule(
        Mixed(fashion, transform=training_transform(32, [v2.RandAugment()])),
        random_part(20, 1),
        random_part(300, 2),
        steps_per_epoch=PLAN.steps_per_epoch,
        batch_size=10,
        workers=workers,
        seed=seed,
    )
    return classifier, data


def run(parts, folder, **options):
    shared = {"plan": PLAN, "folder": folder / "checkpoints", "device": CPU}
    return fit(*parts, **shared, precision="32-true", loggers=[], **options)


def weights(classifier):
    return {name: value.clone() for name, value in classifier.network.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def curves(folder):
    return list(csv.DictReader((folder / "curves.csv").open()))


def bundled():
    """What the fixture `fashion` is, for other processes."""
    from sgid.data.sources.bundled import fashion

    listing = fashion().train
    count = len(listing.keys)
    return listing.images(listing.stamps).select(range(0, count, count // 24)[:24])
