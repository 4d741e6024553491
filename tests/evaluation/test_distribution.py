"""Density, coverage, FID and KID, against prdc, scipy and the definition."""

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.linalg import sqrtm

from sgid.evaluation import distribution as neighbours
from sgid.evaluation.distribution import density_coverage, frechet, kernel_distance


def unit(rng, rows, size=8, shift=0.0):
    vectors = rng.normal(size=(rows, size)) + shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return unit(rng, 120), unit(rng, 90, shift=0.4)


@pytest.mark.parametrize("at_once", [2**24, 1000])
def test_density_and_coverage_are_those_of_prdc(sets, at_once, monkeypatch):
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    real, made = sets
    theirs = compute_prdc(real, made, nearest_k=5)
    expected = theirs["density"], theirs["coverage"]
    assert density_coverage(real, made) == pytest.approx(expected)


def test_too_few_real_images_have_no_neighbourhoods(sets):
    assert density_coverage(sets[0][:5], sets[1]) is None
    assert frechet(sets[0][:1], sets[1]) is None and kernel_distance(sets[0], sets[1][:1]) is None


def test_frechet_distance_is_that_of_two_normal_distributions(sets):
    real, made = (one.astype(np.float64) for one in sets)
    covariances = np.cov(real.T), np.cov(made.T)
    root = sqrtm(covariances[0] @ covariances[1])
    expected = np.square(real.mean(0) - made.mean(0)).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert frechet(*sets) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_over_all_images_is_the_unbiased_one(sets):
    real, made = (one[:90].astype(np.float64) for one in sets)
    kernels = [(1 + a @ b.T) ** 3 for a, b in ((real, real), (made, made), (real, made))]
    within = [(k.sum() - np.trace(k)) / (90 * 89) for k in kernels[:2]]
    expected = sum(within) - 2 * kernels[2].mean()
    assert kernel_distance(real, made) == pytest.approx(expected, rel=1e-5)


def test_subsets_are_the_same_each_time_and_drawn_from_nothing_others_use(sets):
    before = torch.get_rng_state()
    first = kernel_distance(*sets, size=30)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert kernel_distance(*sets, size=30) == first
