"""Pairs are those of one original; without AlexNet's weights nothing is fetched."""

from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from sgid.evaluation.lpips import load_lpips, pairs_within, perceptual_distance


def test_pairs_are_all_within_a_group():
    group = np.array([2, 0, 2, 1, 2, 0])
    expected = {p for p in combinations(range(6), 2) if group[p[0]] == group[p[1]]}
    assert {tuple(sorted(pair)) for pair in pairs_within(group).tolist()} == expected
    some = pairs_within(np.zeros(100, int), limit=50)
    assert len({tuple(pair) for pair in some.tolist()}) == 50


def test_small_images_are_enlarged_and_the_mean_taken():
    pictures = [Image.new("RGB", (32, 48), (value, 0, 0)) for value in (0, 10, 40)]

    def difference(a, b):
        assert a.shape == b.shape == (1, 3, 96, 64)
        return float((a[0, 0].float() - b[0, 0].float()).abs().mean())

    pairs = np.array([[0, 1], [0, 2]])
    assert perceptual_distance(pairs, pictures.__getitem__, difference) == pytest.approx(25)
    assert perceptual_distance(pairs[:0], pictures.__getitem__, difference) is None


def test_without_weights_it_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"alexnet-owt-7be5be79\.pth.*Fetch them once"):
        load_lpips(torch.device("cpu"))
