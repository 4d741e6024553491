"""`stage=check` finds engines that draw something else, and no fault in those that do not."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from sgid.config.compose import compose
from sgid.stages import check as checks
from sgid.stages.check import EXACT, NARROW, check, compare_ways
from sgid.stages.run import prepare
from tests.data.writers import picture
from tests.generation.requests import request

REQUESTS = [request(i, init=picture(i, 0, 32)) for i in range(4)]


class Changed:
    """An engine that draws other requests than it is asked for, given all of a batch."""

    def __init__(self, engine, change) -> None:
        self.engine = engine
        self.change = change

    def generate(self, requests, hook=None):
        changed = self.change(requests)
        asked = {id(new): old for new, old in zip(changed, requests, strict=True)}
        for made in self.engine.generate(changed):
            yield replace(made, request=asked[id(made.request)])


def one_seed(requests):
    """As where a batch has one generator."""
    return [replace(one, seed=requests[0].seed) for one in requests]


def other_noise(requests):
    """As where a device draws its own noise."""
    return [replace(one, seed=one.seed + 1) for one in requests]


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine(batch_size=4)


@pytest.fixture(scope="module")
def narrow(make_engine):
    return make_engine(batch_size=4, dtype=torch.bfloat16)


def test_what_draws_right_is_found_right_in_any_number_format(engine, narrow):
    found = compare_ways(
        REQUESTS,
        here=lambda: narrow,
        exact_here=lambda: engine,
        on_cpu=lambda: engine,
        names=("cpu", "bfloat16"),
    )
    assert [one.limit for one in found][:3] == [NARROW, EXACT, NARROW] and len(found) == 4
    assert all(one.right for one in found), found
    assert found[2].mean > 0  # it is another number format


@pytest.mark.parametrize(
    ("change", "place"), [(one_seed, "one batch, one by one"), (other_noise, "float32: cpu, CPU")]
)
def test_what_draws_wrong_is_found_at_its_place(engine, change, place):
    (wrong,) = [
        one.what
        for one in compare_ways(
            REQUESTS,
            here=lambda: Changed(engine, change),
            exact_here=None,
            on_cpu=lambda: engine,
            names=("cpu", "float32"),
        )
        if not one.right
    ]
    assert place in wrong


def test_the_stage_prints_its_figures_and_fails_where_they_are_wrong(tmp_path, monkeypatch):
    config = compose(["stage=check", "steps=4"])
    config.paths.artifacts = str(tmp_path)
    run = prepare(config, {}, [])
    assert list(run.ready.weights) == ["models.generator"] and not run.augmentations
    out = io.StringIO()
    asked = {"strength": 0.5, "seed": 0, "console": Console(file=out, width=200)}
    check(run.dataset, run.models, **asked)
    assert "cpu, float32: one batch, one by one" in out.getvalue() and "right" in out.getvalue()
    monkeypatch.setattr(checks, "EXACT", checks.Limit(-1))
    with pytest.raises(ValueError, match=r"does not draw as it should: cpu, float32"):
        check(run.dataset, run.models, **asked)
