"""The Vendi score, against the package of its authors."""

import numpy as np
import pytest
from vendi_score import vendi as reference

from sgid.evaluation.distribution import vendi


def unit(rows, size):
    vectors = np.random.default_rng(rows).normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("rows, size", [(5, 12), (12, 12), (60, 12)])
def test_it_is_that_of_the_package(rows, size):
    vectors = unit(rows, size)
    assert vendi(vectors) == pytest.approx(reference.score_K(vectors @ vectors.T))


def test_copies_count_once_and_what_is_unlike_counts_in_full():
    assert vendi(np.repeat(unit(1, 6), 9, axis=0)) == pytest.approx(1)
    assert vendi(np.eye(6)) == pytest.approx(6)
