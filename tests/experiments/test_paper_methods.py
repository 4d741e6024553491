"""The page of other methods: its primary comparison is the one that was fixed, and no other."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.paper import methods
from experiments.paper.scales import TINY
from sgid.evaluation.statistics import holm, paired_difference
from sgid.reporting.format import signed
from tests.experiments.finished import column, run, text

BACKBONES = ("small_resnet", "small_vit", "small_clip")
LEVELS = {("flip_crop",): 70.0, ("sgid",): 75.0, ("gif",): 74.7, ("genie",): 71.0}
SEEDS = range(6)


@pytest.fixture
def results(tmp_path):
    """SGID leads genie by 4 points, gif by next to nothing; with 20 images it trails both."""
    rng = np.random.default_rng(3)
    return [
        run(
            tmp_path, aug, seed, backbone=backbone, images_per_class=shots,
            test=level + rng.normal() - 10 * (shots == 20 and aug == ("sgid",)),
        )
        for shots, backbones in ((10, BACKBONES), (20, BACKBONES[:1]))
        for aug, level in LEVELS.items()
        for backbone in backbones
        for seed in SEEDS
    ]  # fmt: skip


def test_the_primary_comparison_is_over_seeds_with_backbones_averaged(results):
    page = methods.render(results)

    def averaged(aug):
        return [
            np.mean([
                one.metrics["test/top1"] for one in results
                if one.aug == (aug,) and one.seed == seed and one.config["dataset"]["shots"] == 10
            ])
            for seed in SEEDS
        ]  # fmt: skip

    plain = [paired_difference(averaged("sgid"), averaged(other)) for other in ("gif", "genie")]
    corrected = holm([one.p for one in plain])
    assert corrected[0] > 0.05 > corrected[1]
    assert [cell.text for cell in column(page, "leads-10", "method")] == ["gif", "genie"]
    cells = column(page, "leads-10", "SGID minus it (points)")
    for cell, one, p, bold in zip(cells, plain, corrected, (False, True), strict=True):
        assert cell.text.startswith(f"{signed(one.value)} ± {one.half_width:.2f}")
        assert cell.bold is bold and (f"p = {p:.3f}".replace("0.", ".") in cell.text or p < 0.001)
    first, most, least, *_ = page.findings
    assert first.startswith("Primary, 10 images per class: SGID against each method. Of 2 ")
    assert "higher with SGID in 1, lower with SGID in 0, and neither in 1" in first
    assert "genie" in most and most.endswith(": supported.")
    assert "gif" in least and least.endswith("not supported by the test.")


def test_what_else_is_compared_is_named_exploratory(results):
    said = text(methods.render(results))
    assert said.count("Primary") == 1
    assert "Exploratory, 20 images per class: SGID against each method." in said
    assert "Exploratory, 10 images per class: sgid adds most to flip_crop, +" in said
    assert "Exploratory, 20 images per class: gif adds most" in said


def test_images_cost_what_the_run_that_made_them_took(tmp_path):
    def made(aug, seed, backbone, seconds):
        return run(tmp_path, (aug,), seed, backbone=backbone, seconds=seconds)

    results = [
        *(made("sgid", seed, "small_resnet", 2.0) for seed in SEEDS),
        *(made("sgid", seed, "small_vit", 0.01) for seed in SEEDS),  # which found them
        *(made("text2img_label", seed, "small_resnet", s) for seed, s in ((0, 0.02), (1, 7.0))),
    ]
    cost = methods.cost_table(results)
    assert [[cell.text for cell in row] for row in cost.rows] == [
        ["sgid", "6", "20", "1.0×"],
        ["text2img_label", "1", "70", "3.5×"],
    ]
    assert methods.cost_table(results[len(SEEDS) :]) is None


def test_without_sgid_nothing_is_compared_with_it(results):
    page = methods.render([one for one in results if one.aug != ("sgid",)])
    assert "Primary" not in text(page) and "leads-10" not in page.tables
    assert methods.render([]).findings == ()


def test_the_fewest_images_are_given_to_every_backbone():
    sweeps = [sweep.options for sweep in methods.grid(TINY)]
    assert {(one["dataset.shots"][0], *one["backbone"]) for one in sweeps} == {
        ("10", *BACKBONES),
        ("20", "small_resnet"),
    }
    assert all(len(one["seed"]) == 10 for one in sweeps)
