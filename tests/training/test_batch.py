"""Mixup and CutMix against their papers' definitions, and the choice between them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from sgid.training.transforms import batch_transform
from tests.data.writers import picture

COUNT = 6


@pytest.fixture(scope="module")
def images(coloured) -> Tensor:
    """(6, 3, 32, 32), of real images, normalised as in training."""
    pixels = torch.stack([v2.functional.pil_to_tensor(image) for image in coloured[:COUNT]])
    return (pixels.float() - 120) / 58


def noise() -> Tensor:
    """(6, 3, 32, 32), no pixel of which is the same in two images."""
    return torch.stack(
        [v2.functional.pil_to_tensor(picture(i, i, 32)).float() + i / 8 for i in range(COUNT)]
    )


def neighbours(labels: Tensor) -> tuple[float, list[int]]:
    """The share of an image's own label, and whose label has the rest, by image."""
    shares = labels.diagonal()
    assert (shares == shares[0]).all()
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels)))
    others = (labels - torch.diag(shares)).argmax(1).tolist()
    return float(shares[0]), others


def test_no_batch_augmentation():
    assert batch_transform([], 10) is None


def test_mixup_mixes_labels_as_it_mixes_images(make, images):
    slot, mixup = make("mixup")
    assert slot == "batch"
    transform = batch_transform([mixup], COUNT)
    torch.manual_seed(0)
    found, before = [], images.clone()
    for _ in range(500):
        mixed, labels = transform(images, torch.arange(COUNT))
        share, others = neighbours(labels)
        found.append(share)
        if 0.01 < share < 0.99:
            assert sorted(others) == list(range(COUNT)) and all(
                other != own for own, other in enumerate(others)
            )
            torch.testing.assert_close(mixed, share * images + (1 - share) * images[others])
    assert torch.equal(images, before)
    assert stats.kstest(found, stats.beta(0.2, 0.2).cdf).pvalue > 1e-3


def patch(alpha: float, side: int, rng: np.random.Generator) -> float:
    """Yun et al., 2019: the share of the image that stays, once the border has cut the patch."""
    half = side * np.sqrt(1 - rng.beta(alpha, alpha)) / 2
    middle = rng.uniform(0, side, 2)
    width, height = np.minimum(middle + half, side) - np.maximum(middle - half, 0)
    return 1 - width * height / side**2


def test_cutmix_pastes_a_patch_and_mixes_labels_by_its_area(make):
    slot, cutmix = make("cutmix")
    assert slot == "batch"
    images, transform = noise(), batch_transform([cutmix], COUNT)
    torch.manual_seed(0)
    found = []
    for _ in range(500):
        mixed, labels = transform(images, torch.arange(COUNT))
        share, others = neighbours(labels)
        found.append(share)
        pasted = (mixed != images).any(1)  # (B, H, W)
        assert (pasted == pasted[0]).all()
        assert float(pasted[0].float().mean()) == pytest.approx(1 - share, abs=1e-6)
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        assert (pasted[0] == rows[:, None] & columns[None, :]).all()
        inside = not (rows[0] or rows[-1] or columns[0] or columns[-1])
        assert rows.sum() == columns.sum() or not inside  # a square, as the images are
        if share < 1:
            expected = torch.where(pasted[:, None], images[others], images)
            assert torch.equal(mixed, expected)
    rng = np.random.default_rng(0)
    # The patch's sides are whole even numbers, so shares are compared in steps of a tenth.
    theirs = [patch(1.0, 32, rng) for _ in range(20000)]
    expected = np.histogram(theirs, 10, (0, 1))[0] / 20000 * len(found)
    counts = np.histogram(found, 10, (0, 1))[0]
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max())
    assert np.mean(found) == pytest.approx(np.mean(theirs), abs=0.04)


def test_one_of_several_for_each_batch(make):
    choices = [make("mixup", alpha=1.0)[1], make("cutmix")[1]]
    transform, images = batch_transform(choices, COUNT), noise()
    torch.manual_seed(0)
    cut = [
        bool(torch.isin(transform(images, torch.arange(COUNT))[0], images).all())
        for _ in range(100)
    ]
    assert 30 < sum(cut) < 70  # four standard deviations


def test_a_batch_of_either_trains(make, images):
    """Soft labels are what the loss takes, on images that other augmentations have been at."""
    for names in (["mixup"], ["cutmix"], ["mixup", "cutmix"]):
        transform = batch_transform([make(name)[1] for name in names], COUNT)
        mixed, labels = transform(images, torch.arange(COUNT))
        assert mixed.shape == images.shape and labels.dtype == torch.float32
        loss = partial(torch.nn.functional.cross_entropy, torch.zeros(COUNT, COUNT))
        assert float(loss(labels)) == pytest.approx(np.log(COUNT), abs=1e-5)
