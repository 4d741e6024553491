"""Consistency and diversity against loops over every pair; the Vendi score; filters."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from vendi_score import vendi as reference

from sgid.evaluation.distribution import pairwise_distance, vendi
from sgid.evaluation.filters import (
    ClipScores,
    above_chance,
    band,
    clip_scores,
    confusable,
    label,
    per_class,
    quantile,
)


def unit(rng, rows, size=6):
    vectors = rng.normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (np.linalg.norm(a) * np.linalg.norm(b))


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_against_brute_force(seed, originals, repeats):
    rng = np.random.default_rng(seed)
    origin = rng.permutation(np.repeat(np.arange(originals), repeats))
    made, source, classes = unit(rng, len(origin)), unit(rng, originals), unit(rng, 3)
    label_of = rng.integers(0, 3, originals)
    labels = label_of[origin]
    names = ["bag", "coat", "shirt"]
    scores = clip_scores(made, origin, source, labels, classes)

    cosines = [cosine(made[i], source[origin[i]]) for i in range(len(made))]
    assert scores.cosines.tolist() == pytest.approx(cosines)
    assert per_class(scores.cosines, labels, names) == pytest.approx(
        {
            names[c]: np.mean([cosines[i] for i in range(len(made)) if labels[i] == c])
            for c in set(labels)
        }
    )
    nearest = [max(range(3), key=lambda c: cosine(vector, classes[c])) for vector in made]
    assert scores.nearest.tolist() == nearest and scores.labels.tolist() == labels.tolist()
    if repeats == 1:
        assert pairwise_distance(made, origin) is None
    else:
        groups = [[made[i] for i in range(len(made)) if origin[i] == o] for o in range(originals)]
        distances = [
            np.mean([1 - cosine(a, b) for a, b in combinations(group, 2)]) for group in groups
        ]
        assert pairwise_distance(made, origin) == pytest.approx(np.mean(distances))


def test_classes_and_groups_of_one_that_do_not_count():
    made, origin = unit(np.random.default_rng(0), 3), np.array([0, 0, 1])
    assert set(per_class(np.ones(3), np.array([0, 0, 2]), list("abc"))) == {"a", "c"}
    assert pairwise_distance(made, origin) == pytest.approx(1 - cosine(made[0], made[1]))


@pytest.mark.parametrize("rows, size", [(5, 12), (12, 12), (60, 12)])
def test_the_vendi_score_is_that_of_its_authors_package(rows, size):
    vectors = unit(np.random.default_rng(rows), rows, size)
    assert vendi(vectors) == pytest.approx(reference.score_K(vectors @ vectors.T))


def test_copies_count_once_and_what_is_unlike_counts_in_full():
    assert vendi(np.repeat(unit(np.random.default_rng(1), 1), 9, axis=0)) == pytest.approx(1)
    assert vendi(np.eye(6)) == pytest.approx(6)


def test_filters_keep_the_class_that_clip_sees_and_both_ends_of_a_band():
    scores = ClipScores(
        labels=np.array([0, 1, 2, 0]),
        nearest=np.array([0, 2, 2, 1]),
        cosines=np.array([0.2, 0.5, 0.75, 0.98], np.float32),
        to_label=np.array([0.1, 0.3, 0.2, 0.4], np.float32),
        above_chance=np.array([0.5, 1.5, 1.0, 2.9], np.float32),
    )
    assert above_chance(scores).tolist() == [False, True, False, True]
    assert quantile(scores, drop=0.25).tolist() == [False, True, True, True]
    assert quantile(scores, drop=0).all()
    assert label(scores).tolist() == [True, False, True, False]
    assert band(scores, min=0.5, max=0.75).tolist() == [False, True, True, False]
    assert band(scores, min=-1, max=1).all()


def test_scores_are_zero_shot_probabilities_and_cosines():
    rng = np.random.default_rng(0)
    made, names, labels = unit(rng, 7, 5), unit(rng, 3, 5), np.array([0, 1, 2, 0, 1, 2, 0])
    scores = clip_scores(made, np.zeros(7, int), made[:1], labels, names)
    cosines = made @ names.T
    shares = softmax(100 * cosines, 1)
    own = np.arange(7), labels
    np.testing.assert_allclose(scores.above_chance, 3 * shares[own], rtol=1e-5)
    np.testing.assert_allclose(scores.to_label, cosines[own])


def test_the_class_that_images_are_most_taken_for():
    names = np.eye(4)
    images = np.array([[0.9, 0.1, 0.4, 0], [0.8, 0.5, 0.1, 0], [0.3, 0.9, 0, 0.2]])
    # Class 0: on average .3 to class 1 and .25 to class 2. Class 3 has no images.
    assert confusable(images, np.array([0, 0, 1]), names)[:2].tolist() == [1, 0]
