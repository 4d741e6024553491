from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sgid.training.backbones import small_resnet
from sgid.training.classifier import Classifier


def make(network=None, **options):
    network = network or nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    settings = {"optimizer": partial(torch.optim.SGD, lr=1.0), "steps": 100, "warmup": 0.1}
    settings |= {"label_smoothing": 0.0, "batch_transform": None, "num_classes": 4}
    settings |= {"trained": "all", "layer_decay": None}
    return Classifier(network, **settings | options)


def test_the_network_sees_normalised_pixels():
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    pixels = make().normalise(images)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (images.permute(0, 2, 3, 1).numpy() / 255 - mean) / std
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_the_learning_rate_rises_and_follows_a_cosine_to_nothing():
    made = make().configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert made["lr_scheduler"]["interval"] == "step"
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert max(rates) == 1 and (np.diff(rates[10:]) < 0).all()
    assert rates[55] == pytest.approx(0.5) and 0 < rates[-1] < 0.001


def test_the_cosine_scales_the_rate_of_every_layer_alike():
    network = small_resnet(class_names=range(4), image_size=32, weights=None, seed=0, width=8)
    made = make(network, layer_decay=0.5).configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    first = np.array([group["lr"] for group in optimizer.param_groups]) * 10  # of the warm-up
    assert set(first) == {1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32}
    for step in range(100):
        rates = [group["lr"] for group in optimizer.param_groups]
        np.testing.assert_allclose(rates, first * schedule.lr_lambdas[0](step))
        optimizer.step()
        schedule.step()


def test_what_is_trained_must_be_known():
    with pytest.raises(ValueError, match="backbone.trained=body: must be one of all, head"):
        make(trained="body")


def trained_a_little(**options):
    """Weights and buffers of a ResNet before and after five steps at a high rate."""
    torch.manual_seed(0)
    network = small_resnet(class_names=range(4), image_size=32, weights=None, seed=0, width=8)
    model = make(network, optimizer=partial(torch.optim.AdamW, lr=0.1), warmup=0, **options)
    model.log = lambda *args, **kwargs: None
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = model.configure_optimizers()["optimizer"]
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    for step in range(5):
        if step == 2:
            model.eval().train()  # as around a validation
        optimizer.zero_grad()
        model.training_step((images, torch.arange(8) % 4), 0).backward()
        optimizer.step()
    changed = {key for key, value in network.state_dict().items() if (value != before[key]).any()}
    return model, optimizer, changed


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_a_head_alone_leaves_the_rest_as_it_is(layer_decay):
    model, optimizer, changed = trained_a_little(trained="head", layer_decay=layer_decay)
    assert changed == {"fc.weight", "fc.bias"}  # no running statistics either
    held = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in held} == {
        id(weight) for weight in model.network.fc.parameters()
    }
    others = [weight for name, weight in model.network.named_parameters() if "fc." not in name]
    assert all(weight.grad is None for weight in others)
    modes = {name: module.training for name, module in model.network.named_modules()}
    assert [name for name, training in modes.items() if training] == ["fc"]
    assert not any(module.training for module in model.eval().modules())


def test_everything_is_trained_otherwise():
    model, _, changed = trained_a_little()
    assert changed == set(model.network.state_dict())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.05), (2, 1.0), (3, 0.0)])
def test_very_short_trainings_have_a_rate(steps, warmup):
    factors = [make(steps=steps, warmup=warmup)._factor(step) for step in range(steps + 1)]
    assert factors[0] > 0 and all(0 <= factor <= 1 for factor in factors)


def test_the_loss_is_cross_entropy_with_smoothing_and_mixed_labels(monkeypatch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    labels = torch.arange(6) % 4
    soft = torch.softmax(torch.randn(6, 4), 1)

    def loss(**options):
        model = make(network, **options)
        monkeypatch.setattr(model, "log", lambda *args, **kwargs: None)
        return model.training_step((images, labels), 0)

    logits = make(network)(images)
    negative = -logits.log_softmax(1)
    torch.testing.assert_close(loss(), negative[torch.arange(6), labels].mean())
    targets = nn.functional.one_hot(labels, 4) * 0.8 + 0.2 / 4
    torch.testing.assert_close(loss(label_smoothing=0.2), (targets * negative).sum(1).mean())
    mixed = loss(batch_transform=lambda pixels, labels: (pixels, soft))
    torch.testing.assert_close(mixed, (soft * negative).sum(1).mean())


@pytest.mark.parametrize("soft", [False, True])
def test_loss_weights_are_mixed_as_the_images_are(soft, monkeypatch):
    """Of an image mixed of two, each part keeps the weight of its own image."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    labels = torch.arange(6) % 4
    shares = torch.softmax(torch.randn(6, 4), 1) if soft else nn.functional.one_hot(labels, 4)
    weights = torch.tensor([1.8, 0.2, 1.8, 0.2, 0.2, 1.8])

    def mix(pixels, labels):
        return [one * 0.3 + one.roll(1, 0) * 0.7 for one in (pixels, labels)]

    model = make(network, batch_transform=mix, label_smoothing=0.1)
    monkeypatch.setattr(model, "log", lambda *args, **kwargs: None)
    found = model.training_step((images, shares if soft else labels, weights), 0)
    pixels = model.normalise(images)
    negative = -network(pixels * 0.3 + pixels.roll(1, 0) * 0.7).log_softmax(1)
    own = ((shares * 0.9 + 0.1 / 4) * negative).sum(1)
    other = ((shares.roll(1, 0) * 0.9 + 0.1 / 4) * negative).sum(1)
    expected = 0.3 * weights * own + 0.7 * weights.roll(1) * other
    torch.testing.assert_close(found, expected.mean())
