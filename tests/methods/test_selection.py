"""Selection: redrawing with a limit, rules of acceptance, and the largest jump."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgid.methods import selection
from sgid.methods.method import Draw
from sgid.methods.probe import Probe, calibrate, fit, linear_probe, load_probe, softmax
from sgid.records import Generated
from tests.methods.test_requests import make_plan


class Painted:
    """An engine whose images are grey by their seed, and a scorer that reads the grey level."""

    def __init__(self):
        self.calls = []

    def generate(self, requests):
        self.calls.append(len(requests))
        for one in requests:
            yield Generated(one, Image.new("RGB", (8, 8), (one.seed % 251,) * 3), "float32")


def grey(image):
    return image.image.getpixel((0, 0))[0]


def darker_than(limit):
    def rule(images, plan, models):
        levels = np.array([grey(one) for one in images])
        return levels < limit, 1 - levels / 255

    return rule


def chosen(plan, accept, attempts):
    engine = Painted()
    requests = plan.requests(range(len(plan)))
    found = selection.redraw(
        requests, engine.generate, plan, None, accept=accept, attempts=attempts
    )
    return {(one.request.described.key, one.request.repeat): one for one in found}, engine


@pytest.fixture
def plan(fashion):
    return make_plan(fashion, expansion=2)


def test_each_request_is_redrawn_until_accepted(plan):
    found, engine = chosen(plan, [darker_than(100)], 30)
    assert len(found) == len(plan) and all(grey(one) < 100 for one in found.values())
    assert engine.calls[0] == len(plan) and engine.calls == sorted(engine.calls, reverse=True)
    assert sum(one.attempts for one in found.values()) == sum(engine.calls)
    for (key, repeat), one in found.items():
        draw = Draw(plan.seed, key, repeat)
        seed = draw.noise if one.attempts == 1 else draw.again(one.attempts - 1)
        assert one.request.seed == seed and one.accepted


def test_after_the_last_attempt_the_best_is_given_and_marked(plan):
    found, engine = chosen(plan, [darker_than(0), darker_than(300)], 3)
    assert engine.calls == [len(plan)] * 3
    for (key, repeat), one in found.items():
        draw = Draw(plan.seed, key, repeat)
        seeds = [draw.noise, draw.again(1), draw.again(2)]
        assert grey(one) == min(seed % 251 for seed in seeds)
        assert not one.accepted and one.attempts == 3


def test_the_way_to_the_target_and_its_largest_jump():
    source, target = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    features = np.array([[1.0, 0.0], [0.8, 0.2], [0.3, 0.7], [0.2, 0.9]])
    way = selection.way_to_target(features, source, target)
    np.testing.assert_allclose(way, [0, 0.2, 0.7, 0.85])  # (x - z).(t - z) / |t - z|^2
    assert selection.past_largest_jump(way) == 2
    assert selection.past_largest_jump(way[:1]) == 0


PROBE = Probe(
    weight=np.eye(3) * 4,
    bias=np.zeros(3),
    temperature=np.asarray(2.0),
    prototypes=np.eye(3),
    texts=np.eye(3),
    thresholds=np.array([0.5, 0.7, 0.9]),
    scale=np.asarray(10.0),
)


@pytest.fixture
def judged(fashion, tmp_path):
    """Four images of class 1, with features that are given, and a probe of those."""
    PROBE.save(tmp_path)
    plan: Any = SimpleNamespace(artifact=tmp_path, phrases=["a", "b", "c"])
    features = np.array([[0, 1, 0], [0.6, 0.8, 0], [0.8, 0.6, 0], [1, 0, 0]], np.float32)
    names = np.eye(3, dtype=np.float32)
    scorer = SimpleNamespace(
        embed_images=lambda images: features,
        embed_texts=lambda texts: names[: len(texts)],
        logit_scale=10.0,
    )
    request = make_plan(fashion).requests([0])[0]
    from dataclasses import replace

    image = Generated(replace(request, label=1), Image.new("RGB", (8, 8)), "float32")
    return [image] * 4, plan, SimpleNamespace(scorer=scorer), features


def test_rules_against_probabilities_by_hand(judged):
    images, plan, models, features = judged
    zero_shot, probed = softmax(10.0 * features), softmax(2.0 * features)
    accepted, scores = selection.clip_label(images, plan, models)
    assert accepted.tolist() == [True, True, False, False]
    np.testing.assert_allclose(scores, zero_shot[:, 1], rtol=1e-5)
    accepted, _ = selection.above_chance(images, plan, models)
    assert accepted.tolist() == (zero_shot[:, 1] > 1 / 3).tolist() == [True, True, False, False]
    assert selection.in_top(images, plan, models, k=1)[0].tolist() == [True, True, False, False]
    assert selection.in_top(images, plan, models, k=2)[0].all()
    # .79 of class 1 is above .7: easy; .53 is not; .53 of class 0 is above .5, as is .79: wrong
    np.testing.assert_allclose(probed.max(1), [0.787, 0.534, 0.534, 0.787], atol=1e-3)
    accepted, _ = selection.neither_easy_nor_wrong(images, plan, models)
    assert accepted.tolist() == [False, True, False, False]
    accepted, scores = selection.graded(images, plan, models)
    assert accepted.all()
    np.testing.assert_allclose(scores, np.minimum(1, 2 * probed[:, 1]), rtol=1e-5)
    others = ["x", "y"]
    accepted, _ = selection.looks_like(images, plan, models, task="t", others=others)
    assert accepted.tolist() == [False, False, True, True]  # closest to the first text


def test_a_class_of_one_image_filters_nothing(fashion, make_scorer, tmp_path):
    """No classifier that was trained without it has seen such a class."""
    models: Any = SimpleNamespace(scorer=make_scorer())
    single = fashion.labels[0]
    others = [i for i, label in enumerate(fashion.labels) if label != single]
    linear_probe(fashion.select([0, *others]), fashion.class_names, models, tmp_path, seed=0)
    thresholds = load_probe(tmp_path).thresholds
    assert np.isinf(thresholds[single]) and np.isfinite(thresholds[fashion.labels[others[0]]])


def test_the_linear_probe_knows_its_training_images(fashion, make_scorer, tmp_path):
    models: Any = SimpleNamespace(scorer=make_scorer())
    linear_probe(fashion, fashion.class_names, models, tmp_path, seed=0)
    probe = load_probe(tmp_path)
    features = models.scorer.embed_images([one.image for one in fashion])
    labels = np.array(fashion.labels)
    shares = probe.probabilities(features)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (shares.argmax(1) == labels).mean() > 0.8
    np.testing.assert_allclose(np.linalg.norm(probe.prototypes[labels], axis=1), 1)
    own = features[labels == labels[0]].mean(0)
    np.testing.assert_allclose(probe.prototypes[labels[0]], own / np.linalg.norm(own), rtol=1e-5)


def test_logistic_regression_and_temperature():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    features = rng.normal(size=(300, 4)) + 2 * np.eye(3, 4)[labels]
    weight, bias = fit(features, labels, 3)
    shares = softmax(features @ weight.T + bias)
    # At the optimum the mean of the probabilities is that of the classes, in each direction.
    np.testing.assert_allclose((shares - np.eye(3)[labels]).mean(0), 0, atol=1e-4)
    logits = features @ weight.T + bias
    assert calibrate(logits, labels) == pytest.approx(1, abs=0.1)
    assert calibrate(logits * 3, labels) == pytest.approx(3, abs=0.3)
