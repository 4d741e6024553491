import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgid.data.dataset import few_shot, hold_out, keep_images, long_tail, subset
from sgid.data.image_set import ImageSet
from tests.data.writers import encoded, picture

NAMES = ("cat", "dog", "hen")


def image_set(counts: list[int]) -> ImageSet:
    """`counts[label]` images of each class, made when they are read."""
    owners = [(label, index) for label, count in enumerate(counts) for index in range(count)]
    return ImageSet(
        keys=tuple(f"{NAMES[label]}/{index}" for label, index in owners),
        labels=tuple(label for label, _ in owners),
        checksums=tuple(f"{label}-{index}" for label, index in owners),
        class_names=NAMES,
        rows=tuple(range(len(owners))),
        read=lambda row: encoded(picture(*owners[row])),
    )


def shuffled(images: ImageSet, seed: int) -> ImageSet:
    order = list(range(len(images)))
    random.Random(seed).shuffle(order)
    return images.select(order)


counts = st.lists(st.integers(8, 30), min_size=3, max_size=3)
seeds = st.integers(0, 10**6)
light = settings(max_examples=40, deadline=None)


@light
@given(counts, seeds, st.integers(1, 8), st.integers(1, 8))
def test_few_shots_are_nested_exact_and_independent_of_order(counts, seed, fewer, more):
    fewer, more = sorted((fewer, more))
    images = image_set(counts)
    small, large = few_shot(images, fewer, seed), few_shot(images, more, seed)
    assert Counter(large.labels) == {0: more, 1: more, 2: more}
    assert set(small.keys) <= set(large.keys) <= set(images.keys)
    assert few_shot(shuffled(images, seed), more, seed).digest() == large.digest()


@light
@given(counts, seeds, st.integers(1, 8))
def test_a_draw_hardly_changes_when_an_image_comes(counts, seed, shots):
    before = few_shot(image_set(counts), shots, seed)
    after = few_shot(image_set([counts[0] + 1, *counts[1:]]), shots, seed)
    assert len(set(before.keys) - set(after.keys)) <= 1


@light
@given(st.lists(st.integers(2, 30), min_size=3, max_size=3), seeds, st.floats(0.01, 0.99))
def test_a_hold_out_is_stratified_disjoint_and_independent_of_order(counts, seed, share):
    images = image_set(counts)
    rest, held = hold_out(images, share, seed, option="dataset.test")
    assert sorted(rest.keys + held.keys) == sorted(images.keys)
    for label, count in enumerate(counts):
        part = held.labels.count(label)
        assert 1 <= part <= count - 1
        assert abs(part - share * count) <= 1
    again = hold_out(shuffled(images, seed), share, seed, option="dataset.test")
    assert [part.digest() for part in again] == [rest.digest(), held.digest()]


def test_seeds_draw_differently():
    images = image_set([30, 30, 30])
    assert len({few_shot(images, 5, seed).keys for seed in range(10)}) == 10
    held = {hold_out(images, 0.2, seed, option="x")[1].keys for seed in range(10)}
    assert len(held) == 10


def test_a_selection_still_reads_its_own_images():
    for sample in few_shot(image_set([9, 9, 9]), 3, 1):
        name, index = sample.key.split("/")
        assert sample.class_name == name == NAMES[sample.label]
        assert sample.image.tobytes() == picture(sample.label, int(index)).tobytes()


def test_too_few_images_name_the_class_and_the_option():
    images = image_set([5, 3, 5])
    with pytest.raises(ValueError, match=r"dataset.shots=4 needs 4 .*1 of 3 .*: 'dog' \(3\)"):
        few_shot(images, 4, 0)
    with pytest.raises(ValueError, match=r"dataset.shots=0"):
        few_shot(images, 0, 0)
    with pytest.raises(ValueError, match=r"dataset.validation=0.1 needs 2 .*'dog' \(1\)"):
        hold_out(image_set([5, 1, 5]), 0.1, 0, option="dataset.validation")
    for share in (0, 1, -0.5, 3, float("nan")):
        with pytest.raises(ValueError, match=f"dataset.test={share} must be"):
            hold_out(images, share, 0, option="dataset.test")


@light
@given(counts, seeds, st.floats(0.01, 1), st.floats(0.01, 1))
def test_subsets_are_nested_stratified_and_independent_of_order(counts, seed, less, more):
    less, more = sorted((less, more))
    images = image_set(counts)
    small, large = subset(images, less, seed), subset(images, more, seed)
    for label, count in enumerate(counts):
        assert abs(large.labels.count(label) - max(1, more * count)) <= 0.5
    assert set(small.keys) <= set(large.keys)
    assert subset(shuffled(images, seed), more, seed).digest() == large.digest()
    assert set(subset(images, 1, seed).keys) == set(images.keys)


def test_a_long_tail_falls_exponentially():
    images = image_set([100, 100, 100])
    tail = long_tail(images, 100, seed=0)
    assert Counter(tail.labels) == {0: 100, 1: 10, 2: 1}
    assert set(long_tail(images, 50, 0).keys) >= set(tail.keys)
    assert set(long_tail(images, 100, 1).keys) != set(tail.keys)
    assert long_tail(shuffled(images, 3), 100, 0).digest() == tail.digest()
    assert len(long_tail(images, 1, 0)) == 300
    # A class has no more than it has, and never none.
    assert Counter(long_tail(image_set([100, 5, 9]), 1000, 0).labels) == {0: 100, 1: 3, 2: 1}
    with pytest.raises(ValueError, match="dataset.imbalance=0.5"):
        long_tail(images, 0.5, 0)


@light
@given(counts, seeds, st.integers(1, 7))
def test_keeping_some_of_each_class_leaves_the_others(counts, seed, per_class):
    images = image_set(counts)
    kept, others = keep_images(images, per_class, seed)
    assert Counter(kept.labels) == dict.fromkeys(range(3), per_class)
    assert not set(kept.keys) & set(others.keys) and len(kept) + len(others) == len(images)
    again, _ = keep_images(shuffled(images, seed), per_class, seed)
    assert again.digest() == kept.digest()
