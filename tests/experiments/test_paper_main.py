"""The main table, its leads and its tests say what their results say, and no more."""

import math
from itertools import product

import numpy as np
import pytest

from experiments.paper import main
from experiments.paper.backbones import over_backbones, ranking
from experiments.paper.choice import chosen, complete
from experiments.paper.contrasts import Contrast, compare, tally
from experiments.paper.leads import gains, over_best
from sgid.evaluation.statistics import holm, paired_difference
from tests.experiments.finished import column, lots, run, runs, text


def test_the_best_baseline_is_chosen_on_the_validation_part(tmp_path):
    results = [
        *runs(tmp_path, {("sgid",): [75.0, 76.1, 77.0]}),
        # best on the test part, but not where it is chosen
        *runs(tmp_path, {("mixup",): [80.0, 81.0, 82.0]}, validation=60.0),
        *runs(tmp_path, {("cutmix",): [74.0, 74.5, 75.0]}, validation=79.0),
        # combinations are no baselines; and no arm is chosen for easy seeds
        *runs(tmp_path, {("sgid", "mixup"): [90.0, 90.0, 90.0]}, validation=90.0),
        *runs(tmp_path, {("augmix",): [90.0]}, validation=90.0),
    ]
    (lead,) = compare(results, over_best)
    assert lead.contrast.theirs == ("cutmix",)
    reference = paired_difference([75.0, 76.1, 77.0], [74.0, 74.5, 75.0])
    assert lead.difference == reference
    page = main.render(results)
    assert f"leads cutmix, the best baseline on the validation part, by {reference.value:.2f}" in (
        text(page)
    )
    (cell,) = column(page, "lead", "lead (points)")
    assert cell.bold == (reference.p < 0.05)
    assert column(page, "lead", "the paper's lead")[0].text == "+1.72 (ResNet-50)"


def test_a_lead_that_is_none_is_said(tmp_path):
    results = runs(
        tmp_path,
        {("sgid",): [70.0, 70.2, 69.9], ("flip_crop",): [72.0, 72.1, 72.1]},
    )
    said = text(main.render(results))
    assert "SGID trails flip_crop" in said and "the test supports it" in said
    assert not any(cell.bold for cell in column(main.render(results), "lead", "lead (points)"))


def test_differences_are_corrected_over_the_blocks_and_apart_over_all_datasets(tmp_path):
    rng = np.random.default_rng(1)
    results = [
        run(tmp_path, aug, seed, test=70 + rng.normal() + 2 * (aug == ("sgid",)), dataset=dataset)
        for dataset in ("cars", "pets", "dtd")
        for aug in (("flip_crop",), ("sgid",))
        for seed in range(4)
    ]
    found = compare(results, lambda arms: [Contrast("x", ("sgid",), ("flip_crop",))])
    assert [one.block[0] for one in found] == ["cars", "pets", "dtd", "all datasets"]
    plain = [
        paired_difference(
            *(
                [
                    r.metrics["test/top1"]
                    for r in results
                    if r.choices["dataset"] == dataset and r.aug == aug
                ]
                for aug in (("sgid",), ("flip_crop",))
            )
        )
        for dataset in ("cars", "pets", "dtd")
    ]
    assert [one.difference.p for one in found[:3]] == pytest.approx(holm([p.p for p in plain]))
    assert found[3].difference.value == pytest.approx(np.mean([one.value for one in plain]))
    assert found[3].difference.n == 12


def test_the_tally_counts_what_the_tests_support_and_could_have_seen(tmp_path):
    def contrasts(arms):
        return [Contrast("x", ("sgid",), ("none",))]

    found = compare(lots(tmp_path), contrasts)
    counted = tally(found, "better", "worse")
    assert "Of 2 comparisons" in counted, "those over all datasets are drawn"
    assert not any(math.isnan(one.difference.value) for one in found)
    others = [run(tmp_path, ("sgid",), 0), run(tmp_path, ("none",), 1)]
    assert compare(others, contrasts) == [], "pairs need the same seed"
    results = runs(tmp_path, {("flip_crop",): [70.0, 71.0, 70.5], ("sgid",): [72.0, 73.1, 72.4]})
    text = tally(compare(results, gains), "better", "worse")
    assert "With 3 pairs of seeds and 1 tested" in text and "below 4.3 standard errors" in text


def test_over_the_backbones_each_seed_is_one_difference_in_one_family(tmp_path):
    rng = np.random.default_rng(2)
    tops = {
        (backbone, aug): (70 + rng.normal(size=3)).tolist()
        for backbone in ("small_resnet", "small_vit", "small_clip")
        for aug in ("flip_crop", "sgid", "mixup")
    }
    results = [
        one
        for (backbone, aug), values in tops.items()
        if (backbone, aug) != ("small_clip", "mixup")  # so that not all arms have small_clip
        for one in runs(tmp_path, {(aug,): values}, backbone=backbone)
    ]

    def mean(aug: str) -> np.ndarray:
        return np.mean([tops[b, aug] for b in ("small_resnet", "small_vit")], axis=0)

    found = {one.contrast.name: one for one in over_backbones(results, gains)}
    plain = [paired_difference(mean(aug).tolist(), mean("flip_crop").tolist()) for aug in found]
    assert list(found) == ["sgid", "mixup"]
    assert [one.difference.value for one in found.values()] == [
        pytest.approx(one.value) for one in plain
    ]
    assert [one.difference.p for one in found.values()] == pytest.approx(
        holm([one.p for one in plain])
    )
    assert {"backbones", "accuracy"} <= set(main.render(results).tables)
    assert list(main.render(results).figures) == ["gains", "by_backbone"]


def test_one_dataset_is_ranked_and_not_tested(tmp_path):
    many = lots(tmp_path)
    page = main.render([one for one in many if one.choices["dataset"] == "cars"])
    (said,) = [one for one in page.findings if "rank" in one]
    assert said.endswith("One dataset: not tested.") and "p = " not in said
    assert "ranks" not in page.figures
    ranked = ranking(many)
    assert ranked is not None and ranked.blocks == ("fashion", "cars")
    assert "Friedman" in text(main.render(many)) and "ranks" in main.render(many).figures


def test_where_none_is_best_sgid_is_compared_without_flip_crop_too(tmp_path):
    tests = {
        ("flip_crop",): [60.0, 60.5, 61.2],
        ("none",): [70.0, 70.2, 70.7],
        ("sgid",): [65.0, 65.1, 65.9],
    }
    page = main.render(runs(tmp_path, tests))
    assert "SGID trails none" in text(page) and "flip_crop alone minus none is −9.73" in text(page)
    page = main.render(runs(tmp_path, {**tests, ("none", "sgid"): [72.0, 72.1, 72.9]}))
    assert "SGID without flip_crop leads none" in text(page) and "by 2.03" in text(page)
    assert column(page, "lead", "SGID")[0].text.endswith("(none + sgid)")


def test_settings_without_all_seeds_are_not_chosen(tmp_path):
    settings = {
        "whole": {seed: run(tmp_path, ("sgid",), seed, test=60.0) for seed in range(2)},
        "easy": {0: run(tmp_path, ("sgid",), 0, test=90.0)},
    }
    assert chosen(complete(settings)) == "whole" and chosen(settings) == "easy"
    assert chosen({}) is None


def test_many_datasets_have_a_table_for_each_backbone(tmp_path):
    results = [
        run(tmp_path, (aug,), seed, test=70.0 + seed, dataset=f"set{number}", backbone=backbone)
        for number, backbone, aug, seed in product(
            range(4), ("small_resnet", "small_vit"), ("flip_crop", "sgid"), range(2)
        )
    ]
    page = main.render(results)
    accuracy = {name: one for name, one in page.tables.items() if name.startswith("accuracy")}
    assert list(accuracy) == ["accuracy-small_resnet", "accuracy-small_vit"]
    assert all(len(one.headers) == 5 for one in accuracy.values())
    leads = [one for one in page.findings if "the best baseline" in one]
    assert len(leads) == 2 and all("over all datasets" in one for one in leads)
