"""What the models do not know is said before hours of drawing, with figures and advice."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from sgid.data.sources.bundled import fashion as bundled
from sgid.stages.first_look import (
    _alike_names,
    _misnamed,
    _unknown_classes,
    look_at_captions,
    look_at_classes,
    look_first,
)

CLASSES, EACH, SIDE = 4, 16, 32


class Scorer:
    """Images are their own embeddings here."""

    def embed_images(self, images):
        rows = np.array(images, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def images(seed: int, spread: float = 0.1) -> list[SimpleNamespace]:
    """Points around the axis of each class."""
    random = np.random.default_rng(seed)
    axes = np.eye(SIDE)[np.repeat(range(CLASSES), EACH)]
    noise = random.normal(0, spread, axes.shape)
    return [SimpleNamespace(image=row) for row in axes + noise]


def look(*, spread=0.1, strict=False):
    dataset = SimpleNamespace(train=images(0), validation=images(1))
    pictures = [one.image for one in images(2, spread)]
    look_first(pictures, dataset, SimpleNamespace(scorer=Scorer()), strict=strict)


DIFFERENT = [f"a photo of thing {n % 40}" for n in range(CLASSES * EACH)]
CASES = {
    "captions": (
        lambda strict: look_at_captions(["a photo"] * 40 + DIFFERENT[:24], strict=strict),
        r"40 of 64 images have the same caption, 'a photo'",
    ),
    "images": (
        lambda strict: look(spread=1.0, strict=strict),
        r"lie \d.\d times as far .* as held-out real ones do",
    ),
}


def test_models_that_know_the_images_are_not_remarked_on(caplog):
    look(strict=True)
    look_at_captions(DIFFERENT, strict=True)
    assert not caplog.records


@pytest.mark.parametrize("case", CASES)
def test_what_the_models_do_not_know_is_said_and_strict_stops(case, caplog):
    looks, said = CASES[case]
    with caplog.at_level(logging.WARNING):
        looks(False)
    (record,) = caplog.records
    with pytest.raises(ValueError, match=said) as caught:
        looks(True)
    assert record.getMessage() in str(caught.value)


def test_of_a_few_images_nothing_is_said(caplog):
    dataset = SimpleNamespace(train=images(0)[:5], validation=images(1)[:5])
    models = SimpleNamespace(scorer=Scorer())
    look_first([images(2, 9)[0].image], dataset, models, strict=True)
    look_at_captions(["a"] * 5, strict=True)
    few, labels = np.eye(4, dtype=np.float32), np.array([1, 0, 3, 2])
    assert not _unknown_classes(few, few, labels) and not _misnamed(few, few, labels, "abcd")
    assert not caplog.records


AXES = np.eye(CLASSES, dtype=np.float32)
LABELS = np.repeat(range(CLASSES), EACH)


def test_classes_that_are_taken_for_others_come_worst_first():
    guesses = LABELS.copy()
    guesses[:12] = 1  # twelve of sixteen of the first class
    guesses[16:32] = 2  # all of the second
    guesses[32:40] = 3  # half of the third: chance
    (said,) = _misnamed(AXES[guesses], AXES, LABELS, ["ant", "bee", "cat", "dog"])
    assert "2 of 4 classes for others: 'bee' for 'cat' (16 of 16), 'ant' for 'bee' (12 of " in said
    assert "Of 64 training images it names 44% right" in said
    assert not _misnamed(AXES[LABELS], AXES, LABELS, "abcd")


def test_classes_that_it_does_not_know_at_all_are_one_remark():
    (said,) = _unknown_classes(AXES[np.zeros_like(LABELS)], AXES, LABELS)
    assert "25% of 64 real images their own class, where chance is 25%" in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("cat", "cats"), ("red car", "car, red"), ("T-shirt", "t shirt"), ("café", "cafe")),
        *(("golden retriever", "golden retreiver"), ("bull mastiff", "bullmastiff")),
    ],
)
def test_names_that_are_nearly_the_same(one, other):
    (said,) = _alike_names(["bus", one, "zebra", other])
    assert f"{one!r} and {other!r}" in said


def test_names_that_are_different_however_alike_they_look():
    names = ["male", "female", "Boeing 737-200", "Boeing 737-300", "common tern", "common raven"]
    names += ["lemon", "melon", "BMW M3 Coupe 2012", "BMW M6 Coupe 2012", "sandal", "scandal"]
    names += ["black throated blue warbler", "black throated gray warbler", "bus", "glass"]
    assert not _alike_names(names)


def test_on_real_images_with_right_and_with_wrong_names(make_scorer, tmp_path, caplog):
    listing = bundled().train
    count = len(listing.keys)
    train = listing.images(listing.stamps).select(range(0, count, count // 200))  # of all classes
    models = SimpleNamespace(scorer=make_scorer(), identity=lambda name: {"name": name})
    names = train.class_names

    def look(phrases, *, strict):
        dataset = SimpleNamespace(train=train, class_names=names, phrases=phrases)
        look_at_classes(dataset, models, tmp_path, strict=strict)

    look(names, strict=True)
    assert not caplog.records
    turned = (names[1], names[7], names[0], *names[3:7], names[2], *names[8:])
    with pytest.raises(ValueError, match=r"real images of \d of 10 classes for others") as told:
        look(turned, strict=True)
    assert "dataset.noun" in str(told.value) and "evaluation.classifier" in str(told.value)
