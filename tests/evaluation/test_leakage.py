"""Near-copies: found among all, and no more of them than chance explains."""

import numpy as np
import pytest
from PIL import Image

from sgid.evaluation import distribution as neighbours
from sgid.evaluation import leakage
from sgid.evaluation import metrics as measures
from sgid.evaluation.leakage import limit, nearest_by_pixels
from sgid.evaluation.metrics import (
    Features,
    ImageSetFeatures,
    RealFeatures,
    held_out_limit,
    image_metrics,
)


def thumbnails(images):
    return leakage.thumbnails(images, np.zeros((len(images), 32, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (60, 8, 8, 3)).astype(np.uint8)
    return [Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC) for one in coarse]


@pytest.mark.parametrize("at_once", [2**24, 40_000])
def test_the_nearest_is_that_of_all_pairs(pictures, at_once, monkeypatch):
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    pixels = thumbnails(pictures)
    found = nearest_by_pixels(pixels[:20], pixels[20:])
    every = pixels[:20, None].astype(float) - pixels[None, 20:].astype(float)
    distances = np.sqrt(np.square(every).mean((2, 3, 4))) / 255
    np.testing.assert_array_equal(found.rows, distances.argmin(1))
    np.testing.assert_allclose(found.distances, distances.min(1), rtol=1e-5)


def test_the_limit_is_what_chance_goes_below_as_often_as_it_says():
    rng = np.random.default_rng(1)
    below = [(one := limit(rng.random(199))).distance >= rng.random() for _ in range(4000)]
    assert one.share == pytest.approx(0.01) and np.mean(below) == pytest.approx(0.01, abs=0.005)
    assert limit(rng.random(9)).share == pytest.approx(0.1)  # so few cannot tell one in a hundred


def test_a_copy_is_found_and_so_is_one_that_only_looks_the_same(pictures):
    test = pictures[:20]
    large = [one.resize((64, 64), Image.Resampling.NEAREST) for one in pictures[:2]]
    lighter = Image.fromarray(np.minimum(np.asarray(test[3]), 250) + 2)
    made = [test[7], lighter, large[1], *pictures[40:]]
    blank = np.ones((len(made), 1), np.float32)
    held_out = Features(blank, thumbnails(pictures[20:40]))
    real = RealFeatures(held_out, held_out, thumbnails(test))
    given = ImageSetFeatures(blank, thumbnails(made), made.__getitem__)
    leaked = measures.leakage(given, real, held_out_limit(real), test.__getitem__)
    assert leaked.near[:3].all() and leaked.nearest.rows[:3].tolist() == [7, 3, 1]
    assert leaked.same.tolist() == [True, *[False] * (len(made) - 1)]
    worst = leaked.worst(3)
    assert {pair["row"] for pair in worst} == {0, 1, 2} and worst[-1]["test"] == 3


def test_thumbnails_of_small_images_are_their_pixels(pictures):
    assert thumbnails(pictures[:1])[0].tobytes() == pictures[0].tobytes()
    assert thumbnails([]).shape == (0, 32, 32, 3)


def test_of_many_images_a_sample_is_compared_and_counted(pictures, monkeypatch):
    monkeypatch.setattr(measures, "SAMPLE", 10)
    test = pictures[:20]
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    held_out = Features(vectors[:20], thumbnails(pictures[20:40]))
    real = RealFeatures(Features(vectors.copy(), thumbnails(pictures)), held_out, thumbnails(test))
    given = ImageSetFeatures(
        vectors, thumbnails(pictures), pictures.__getitem__, source_index=np.arange(60)
    )
    leaked = measures.leakage(given, real, held_out_limit(real), test.__getitem__)
    assert len(set(leaked.rows.tolist())) == 10
    assert all(pair["test"] == pair["row"] for pair in leaked.worst() if pair["same"])
    found = image_metrics(given, real, leaked)
    assert found["test_duplicates"] == (leaked.rows < 20).sum() > 0
    assert found["train_copies"] == 10 and found["own_original_nearest"] == 100
    assert found["test_copies_expected"] == pytest.approx(10 * leaked.limit.share)
    monkeypatch.undo()
    assert measures.sample(20_000).tolist() == list(range(20_000))
