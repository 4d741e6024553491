"""The photographs that the models saw are none that experiments use, by committed hashes."""

from pathlib import Path

import numpy as np
import pytest

import sgid
from experiments.models.duplicates import NEAR, distances

FOLDER = Path(sgid.__file__).parent / "assets" / "photo_models"


@pytest.fixture(scope="module")
def evaluated() -> np.ndarray:
    """Hashes (51,760, 3): of the pixels, the look, and the mirror image's look."""
    return np.load(FOLDER / "evaluated_hashes.npy", allow_pickle=False)


@pytest.fixture(scope="module")
def corpus() -> np.ndarray:
    """Hashes (44,980, 2): of the pixels and the look."""
    return np.load(FOLDER / "corpus_hashes.npy", allow_pickle=False)


def overlaps(corpus: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
    """Rows of the corpus that have the pixels, or nearly the look, of an evaluated image."""
    exact = np.isin(corpus[:, 0], evaluated[:, 0])
    return np.flatnonzero(exact | (distances(corpus[:, 1], evaluated[:, 1:].ravel()) <= NEAR))


def test_the_models_saw_no_image_that_is_evaluated(corpus, evaluated):
    assert corpus.shape == (44_980, 2) and evaluated.shape == (51_760, 3)
    assert not len(overlaps(corpus, evaluated))


def test_a_planted_overlap_is_found(corpus, evaluated):
    """Of equal pixels; of a look that differs in a few bits; of a mirrored one; of none of them."""
    few = corpus[:4].copy()
    few[0, 0] = evaluated[40_000, 0]
    few[1, 1] = evaluated[17, 1] ^ np.uint64(0b1011 << 20)
    few[2, 1] = evaluated[51_759, 2]
    assert overlaps(few, evaluated).tolist() == [0, 1, 2]
