"""Models that do not know the images are told from their first ones, with figures and advice."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from sgid.stages.first_look import look_first

CLASSES, EACH, SIDE = 4, 16, 32


class Scorer:
    """Images are their own embeddings here; texts are the axes, as far as it knows the classes."""

    def __init__(self, knows: bool) -> None:
        self.knows = knows

    def embed_images(self, images):
        rows = np.array(images, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts):
        axes = np.eye(SIDE, dtype=np.float32)
        return axes[:CLASSES] if self.knows else axes[[SIDE - 1] * CLASSES]


class Part(list):
    labels = tuple(np.repeat(range(CLASSES), EACH))


def images(seed: int, spread: float = 0.1) -> Part:
    """Points around the axis of each class."""
    random = np.random.default_rng(seed)
    axes = np.eye(SIDE)[np.repeat(range(CLASSES), EACH)]
    noise = random.normal(0, spread, axes.shape)
    return Part(SimpleNamespace(image=row) for row in axes + noise)


def look(*, knows=True, captions=None, drawn=2, spread=0.1, strict=False):
    phrases = [f"class {n}" for n in range(CLASSES)]
    dataset = SimpleNamespace(train=images(0), validation=images(1), phrases=phrases)
    models = SimpleNamespace(scorer=Scorer(knows))
    pictures = [one.image for one in images(drawn, spread)]
    look_first(pictures, captions or [], dataset, models, strict=strict)


DIFFERENT = [f"a photo of thing {n % 40}" for n in range(CLASSES * EACH)]
CASES = {
    "classes": ({"knows": False}, r"25% of 64 real images their own class, where chance is 25%"),
    "captions": (
        {"captions": ["a photo"] * 40 + DIFFERENT[:24]},
        r"40 of 64 images have the same caption, 'a photo'",
    ),
    "images": ({"spread": 1.0}, r"lie \d.\d times as far .* as held-out real ones do"),
}


def test_models_that_know_the_images_are_not_remarked_on(caplog):
    look(captions=DIFFERENT, strict=True)
    assert not caplog.records


@pytest.mark.parametrize("case", CASES)
def test_what_the_models_do_not_know_is_said_and_strict_stops(case, caplog):
    options, said = CASES[case]
    with caplog.at_level(logging.WARNING):
        look(**options)
    (record,) = caplog.records
    with pytest.raises(ValueError, match=said) as caught:
        look(**options, strict=True)
    assert record.getMessage() in str(caught.value)


def test_of_a_few_images_nothing_is_said(caplog):
    dataset = SimpleNamespace(train=images(0)[:5], validation=images(1)[:5], phrases=["a", "b"])
    dataset.train = Part(dataset.train)
    models = SimpleNamespace(scorer=Scorer(False))
    look_first([images(2, 9)[0].image], ["a"] * 5, dataset, models, strict=True)
    assert not caplog.records
