from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sgid.training.module import Classifier


def make(network=None, **options):
    network = network or nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    settings = {"optimizer": partial(torch.optim.SGD, lr=1.0), "steps": 100, "warmup": 0.1}
    settings |= {"label_smoothing": 0.0, "batch_transform": None}
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
