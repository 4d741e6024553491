"""Semantic consistency and diversity, against loops over every pair."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgid.evaluation.filters import Consistency, clip_scores, consistency


def unit(rng, rows, size=6):
    vectors = rng.normal(size=(rows, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (np.linalg.norm(a) * np.linalg.norm(b))


def measure(made, origin, source, labels, classes, names) -> Consistency:
    judged = clip_scores(made, origin, source, labels, classes)
    assert len(judged.nearest) == len(judged.cosines) == len(made)
    return consistency(judged, made, origin, names)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_against_brute_force(seed, originals, repeats):
    rng = np.random.default_rng(seed)
    origin = rng.permutation(np.repeat(np.arange(originals), repeats))
    made, source, classes = unit(rng, len(origin)), unit(rng, originals), unit(rng, 3)
    label_of = rng.integers(0, 3, originals)
    labels = label_of[origin]
    names = ["bag", "coat", "shirt"]
    found = measure(made, origin, source, labels, classes, names)

    cosines = [cosine(made[i], source[origin[i]]) for i in range(len(made))]
    assert found.cosine == pytest.approx(np.mean(cosines))
    assert found.cosine_per_class == pytest.approx(
        {
            names[c]: np.mean([cosines[i] for i in range(len(made)) if labels[i] == c])
            for c in set(labels)
        }
    )
    nearest = [max(range(3), key=lambda c: cosine(vector, classes[c])) for vector in made]
    right = [a == b for a, b in zip(nearest, labels, strict=True)]
    assert found.label_agreement == pytest.approx(100 * np.mean(right))
    if repeats == 1:
        assert found.diversity is None
    else:
        groups = [[made[i] for i in range(len(made)) if origin[i] == o] for o in range(originals)]
        distances = [
            np.mean([1 - cosine(a, b) for a, b in combinations(group, 2)]) for group in groups
        ]
        assert found.diversity == pytest.approx(np.mean(distances))


def test_copies_are_consistent_and_not_diverse():
    rng = np.random.default_rng(0)
    source = unit(rng, 4)
    origin = np.repeat(np.arange(4), 3)
    found = measure(source[origin], origin, source, origin, source, list("abcd"))
    assert found.cosine == pytest.approx(1) and found.label_agreement == 100
    assert found.diversity == pytest.approx(0)


def test_a_class_without_images_is_left_out():
    rng = np.random.default_rng(0)
    origin = np.array([0, 1])
    labels = np.array([0, 2])
    found = measure(unit(rng, 2), origin, unit(rng, 2), labels, unit(rng, 3), list("abc"))
    assert set(found.cosine_per_class) == {"a", "c"}


def test_groups_of_one_do_not_count_for_diversity():
    rng = np.random.default_rng(0)
    made = unit(rng, 3)
    origin = np.array([0, 0, 1])
    found = measure(made, origin, unit(rng, 2), origin, unit(rng, 2), list("ab"))
    assert found.diversity == pytest.approx(1 - cosine(made[0], made[1]))
