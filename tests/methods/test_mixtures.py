"""Two classes or two images in one: NoiseCutMix's rectangle, Diff-II's circle."""

import numpy as np
import pytest

from sgid.methods.diff_ii import on_circle
from sgid.methods.noise_cutmix import rectangle, shares, two_classes
from tests.methods.test_requests import make_plan


def test_rectangles_are_clipped_at_the_border():
    whole = rectangle(8, 0.25, 0.5, 0.5)
    assert whole.sum() == 16 and whole[2:6, 2:6].all()
    corner = rectangle(8, 0.25, 0.0, 0.999)
    assert corner.sum() == 4 and corner[6:, :2].all()
    assert rectangle(8, 0.0, 0.5, 0.5).sum() == 0


def test_label_weights_are_areas_and_sum_to_one():
    assert shares(2, 5, 0.3) == {2: 0.3, 5: 0.7}
    assert shares(2, 2, 0.3) == {2: 1.0}


def test_requests_of_two_classes(fashion):
    plan = make_plan(
        fashion, prompt="a {label}", changes=two_classes, from_image=False, expansion=6
    )
    others = set()
    for request in plan.requests(range(len(plan))):
        own, inside = request.described.label, float(request.blend.mask.mean())
        assert request.blend.mask.shape == (64, 64)
        assert request.prompt == f"a {plan.phrases[own]}"
        (other,) = [i for i, name in enumerate(plan.phrases) if request.blend.prompt == f"a {name}"]
        others.add(other)
        assert request.label_weights == pytest.approx(
            {own: 1.0} if other == own else {own: inside, other: 1 - inside}
        )
        assert request.label == (own if inside >= 0.5 else other)
    assert len(others) > 8


def test_the_circle_goes_through_both_and_keeps_the_length():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 4, 8, 8))
    two *= np.linalg.norm(one) / np.linalg.norm(two)
    angle = np.arccos((one * two).sum() / np.linalg.norm(one) ** 2)
    np.testing.assert_allclose(on_circle(one, two, 0), one, rtol=1e-5)
    # a = -1, a whole turn on: the second
    np.testing.assert_allclose(
        on_circle(one, two, 1 - angle / (2 * np.pi)), two, rtol=1e-4, atol=1e-4
    )
    for place in (0.1, 0.4, 0.9):
        point = on_circle(one, two, place)
        assert np.linalg.norm(point) == pytest.approx(np.linalg.norm(one), rel=1e-5)
        turned = np.arccos((one * point).sum() / np.linalg.norm(one) ** 2)
        assert min(turned, 2 * np.pi - turned) == pytest.approx(
            min(2 * np.pi * place, 2 * np.pi * (1 - place)), abs=1e-5
        )


def test_latents_that_span_no_circle_stay():
    one = np.random.default_rng(0).normal(size=(4, 8, 8))
    for other in (one, 2 * one, -one):
        assert np.isfinite(on_circle(one, other, 0.3)).all()
        np.testing.assert_allclose(on_circle(one, other, 0.3), one, rtol=1e-5)
