"""Disk and hours of a long generation are said before it begins."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from sgid.methods.guidance import fixed
from sgid.methods.method import Method
from sgid.methods.requests import RequestPlan, Undescribed
from sgid.stages import estimate
from sgid.stages.estimate import Rate, announce, bytes_per_image, denoising_steps
from sgid.store.tables import encode

CPU = torch.device("cpu")


@pytest.fixture
def plan(fashion):
    return RequestPlan(
        fashion, Undescribed(fashion), np.full(len(fashion), np.nan),
        Method("one", "a {label}", True, [0.3, 0.5], partial(fixed, scale=3)),
        {"label": fashion.class_names}, expansion=1, seed=0, resolution=64, multiple=8,
    )  # fmt: skip


@pytest.fixture
def rate(tmp_path):
    return Rate(tmp_path / "rates.json", {"engine": "a"}, CPU)


def said(plan, rate, tmp_path, caplog, rows, **options):
    caplog.clear()
    with caplog.at_level("INFO"):
        announce(
            plan, rows, rate, tmp_path, **{"steps": 20, "format": "png", "size": None, **options}
        )
    return caplog.messages


def test_steps_are_the_mean_over_strengths(plan):
    assert denoising_steps(plan, 20) == (6 + 10) / 2
    text = replace(plan, method=replace(plan.method, from_image=False))
    assert denoising_steps(text, 20) == 20


def test_bytes_are_those_of_originals_as_they_would_be_kept(plan, fashion):
    whole = bytes_per_image(plan, format="png", size=None)
    small = bytes_per_image(plan, format="png", size=16)
    assert bytes_per_image(plan, format="jpeg", size=None) < whole and small < whole / 4
    exact = np.mean([len(encode(one.image.resize((64, 64)), "png")) for one in fashion])
    assert whole == pytest.approx(exact, rel=0.5)


def test_a_rate_is_that_of_a_generator_and_outlives_the_run(rate, tmp_path):
    assert rate.read() is None
    rate.note(400, 10.0)
    assert Rate(rate.file, {"engine": "a"}, CPU).read() == 10 / 400
    assert Rate(rate.file, {"engine": "b"}, CPU).read() is None
    Rate(rate.file, {"engine": "b"}, CPU).note(1, 2.0)
    assert rate.read() == 10 / 400
    for damaged in ("", "[]", json.dumps({rate.name: "x"})):
        rate.file.write_text(damaged)
        assert rate.read() is None


def test_what_is_much_is_said_with_its_time_where_that_is_known(plan, rate, tmp_path, caplog):
    assert said(plan, rate, tmp_path, caplog, 100) == []
    (text,) = said(plan, rate, tmp_path, caplog, 10**6)
    assert (
        "one: 1,000,000 images to draw, about" in text
        and "GB of" in text
        and "as before" not in text
    )
    rate.note(1, 0.01)  # 0.08 s an image
    (text,) = said(plan, rate, tmp_path, caplog, 100_000)
    assert "about 2 hours at 12.5 images a second, as before here" in text


def test_what_does_not_fit_is_a_warning(plan, rate, tmp_path, caplog, monkeypatch):
    little = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _: little)
    (text,) = said(plan, rate, tmp_path / "not" / "there", caplog, 10_000)
    assert "they do not fit. Take store.size=N" in text
    assert caplog.records[0].levelname == "WARNING"
