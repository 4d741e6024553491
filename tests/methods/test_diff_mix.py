"""Diff-Mix's labels, and that its prompts name the class that is drawn."""

from collections import Counter
from functools import partial

import pytest

from sgid.methods.diff_mix import mixed_label
from sgid.methods.method import Draw
from tests.methods.test_requests import make_plan

STRENGTHS = [0.3, 0.5, 0.7, 0.9]


def test_the_label_is_shared_by_the_strength():
    drawn = Counter()
    for repeat in range(200):
        draw = Draw(0, "a.png", repeat)
        target, weights = mixed_label(1, 4, draw, strength=0.7, gamma=0.8)
        share = 0.7**0.8  # 0.752
        expected = {1: 1.0} if target == 1 else {1: 1 - share, target: share}
        assert weights == pytest.approx(expected)  # of the same class: all of it
        drawn[target] += 1
    assert set(drawn) == {0, 1, 2, 3} and min(drawn.values()) > 30


def test_a_prompt_names_the_class_drawn_even_where_the_original_weighs_more(fashion):
    target = partial(mixed_label, strength=STRENGTHS, gamma=0.8)
    plan = make_plan(fashion, prompt="a {label}", strength=STRENGTHS, target=target, expansion=30)
    lighter = 0
    for request in plan.requests(range(len(plan))):
        share = request.strength**0.8
        source, drawn = request.described.label, request.label
        expected = {source: 1.0} if source == drawn else {source: 1 - share, drawn: share}
        assert dict(request.label_weights) == pytest.approx(expected)
        assert request.prompt == f"a {plan.phrases[drawn]}"
        lighter += source != drawn and share < 0.5
    assert lighter > 20
