"""The pages of the paper's experiments say what their results say, and no more."""

import io
import math
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments.paper import (
    ablation,
    combination,
    consistency,
    expansion,
    main,
    noise_guidance,
    plane,
    shots,
)
from experiments.paper.contrasts import Contrast, compare, tally
from experiments.paper.leads import over_best
from experiments.paper.page import Page
from sgid.evaluation.statistics import holm, paired_difference
from sgid.reporting.charts.style import encode
from sgid.reporting.results import Generation, Result

OFFLINE = {"slot": "offline"}
GENERATIVE = (
    *("sgid", "no_label", "no_caption", "fixed_guidance", "random_caption"),
    *("img2img_plain", "text2img_label"),
)


def run(
    folder: Path,
    aug: tuple[str, ...],
    seed: int = 0,
    *,
    test: float = 70.0,
    validation: float | None = None,
    dataset: str = "fashion",
    backbone: str = "small_resnet",
    noise_rate: float = 0.7,
    scale: float = 5.0,
    ratio: int = 5,
    images_per_class: int = 20,
    measures: dict[str, float | None] | None = None,
) -> Result:
    """A finished run with that test top-1."""
    made = [name for name in aug if name in GENERATIVE]
    offline = {name: {**OFFLINE, "prompt": name} for name in made}
    return Result(
        folder=folder,
        fingerprint=f"{aug}-{seed}-{dataset}-{backbone}-{noise_rate}-{scale}-{ratio}",
        choices={"dataset": dataset, "backbone": backbone, "models": "tiny", "guidance": "fixed",
                 "filter": "none", "aug": list(aug)},
        seed=seed,
        config={
            "seed": seed,
            "noise_rate": noise_rate,
            "expansion": ratio,
            "guidance": {"scale": scale},
            "dataset": {"name": dataset, "shots": images_per_class},
            "backbone": {"name": backbone},
            "aug": {name: offline.get(name, {"slot": "online"}) for name in aug},
        },
        protocol={"train": 200, "validation": 100, "test": 1000},
        metrics={"test/top1": test, "validation/top1": validation if validation else test + 1},
        generated=tuple(
            Generation(
                method=name,
                path=f"generated/{name}-{seed}-{noise_rate}-{scale}",
                images=100,
                histograms={},
                cosine=0.9,
                cosine_per_class={"coat": 0.8 + 0.01 * seed, "dress": 0.9},
                label_agreement=88.0,
                diversity=0.04,
                filter=None,
                measures=measures or {},
            )
            for name in made
        ),
        overrides=(),
        seconds={},
        stores=(),
        versions={},
        commit=None,
        finished="2026-11-22",
    )  # fmt: skip


def runs(folder: Path, tests: dict[tuple[str, ...], list[float]], **settings) -> list[Result]:
    """A run for each augmentation and seed."""
    return [
        run(folder, aug, seed, test=test, **settings)
        for aug, values in tests.items()
        for seed, test in enumerate(values)
    ]


def text(page: Page) -> str:
    return "\n".join(page.findings)


def column(page: Page, table: str, header: str) -> list:
    place = page.tables[table].headers.index(header)
    return [row[place] for row in page.tables[table].rows]


@pytest.fixture
def lots(tmp_path: Path) -> list[Result]:
    rng = np.random.default_rng(0)
    arms = [("none",), ("flip_crop",), ("mixup",), ("cutmix",), ("sgid",), ("text2img_label",)]
    arms += [("sgid", "mixup"), ("sgid", "cutmix"), ("no_label",), ("img2img_plain",)]
    places = product(("fashion", "cars"), ("small_resnet", "small_vit"))
    return [
        run(tmp_path, aug, seed, test=70 + rng.normal(), dataset=d, backbone=b)
        for d, b in places
        for aug in arms
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    "name",
    ["main", "combination", "ablation", "noise_guidance", "expansion", "shots", "consistency",
     "plane"],
)  # fmt: skip
class TestEveryPage:
    def test_it_stands_several_datasets_backbones_and_gaps(self, name, lots):
        render = import_module(f"experiments.paper.{name}").render
        whole = render(lots)
        assert whole.findings and whole.tables and whole.figures
        assert set(whole.captions) == set(whole.figures)
        assert all(encode(figure, "svg") for figure in whole.figures.values())
        for table in whole.tables.values():
            assert {len(row) for row in table.rows} == {len(table.headers)}
        # every third run has not finished
        page = render([one for index, one in enumerate(lots) if index % 3 != 1])
        assert "nan" not in text(page)
        for table in page.tables.values():
            assert "nan" not in table.markdown()

    def test_it_stands_one_seed_and_no_runs(self, name, lots):
        render = import_module(f"experiments.paper.{name}").render
        page = render([one for one in lots if one.seed == 0 and one.choices["dataset"] == "cars"])
        assert "nan" not in text(page)
        assert not any(
            cell.bold for table in page.tables.values() for row in table.rows for cell in row
        )
        assert render([]) == Page()


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


def test_pairs_need_the_same_seed(tmp_path):
    results = [run(tmp_path, ("sgid",), 0), run(tmp_path, ("flip_crop",), 1)]
    assert compare(results, lambda arms: [Contrast("x", ("sgid",), ("flip_crop",))]) == []


def test_combination_sets_each_augmentation_beside_itself_with_sgid(tmp_path):
    results = runs(
        tmp_path,
        {
            ("flip_crop",): [70.0, 71.0, 70.5],
            ("sgid",): [72.0, 73.1, 72.4],
            ("mixup",): [74.0, 74.2, 74.1],
            ("sgid", "mixup"): [73.0, 73.3, 73.0],
        },
    )
    page = combination.render(results)
    rows = {row[0].text: row for row in page.tables["combination"].rows}
    assert set(rows) == {"flip_crop", "mixup"}
    assert rows["mixup"][3].text.startswith("−1.00") and rows["mixup"][3].bold
    assert rows["flip_crop"][3].text.startswith("+2.00") and rows["flip_crop"][3].bold
    assert "support better with SGID in 1, worse with SGID in 1, and neither in 0" in text(page)


def test_ablation_names_the_part_that_does_the_work(tmp_path):
    results = runs(
        tmp_path,
        {
            ("sgid",): [72.0, 73.1, 72.4],
            ("no_label",): [68.0, 69.0, 68.5],
            ("no_caption",): [72.3, 72.5, 72.9],
        },
    )
    first, second, *_ = ablation.render(results).findings
    assert first.startswith("Without the label: −4.00") and first.endswith("It helps.")
    assert second.startswith("Without the caption: +0.07")
    assert second.endswith("The test does not support a difference.")


def example(method: str) -> dict:
    def png(value: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (value, value, value)).save(buffer, "PNG")
        return buffer.getvalue()

    return {
        "method": method, "key": "train/1", "class_name": "coat", "caption": "a <b> $5 coat",
        "similarity": 0.5, "prompt": "", "guidance_scale": 5.0, "strength": 0.5,
        "original": png(9), "images": [png(99)], "kept": [True],
    }  # fmt: skip


def test_noise_and_guidance_choose_on_the_validation_part_and_show_an_image(tmp_path):
    results = []
    for rate, scale, seed in product((0.3, 0.9), (1.5, 10.0), (0, 1)):
        folder = tmp_path / f"{rate}-{scale}-{seed}"
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist([example("sgid")]), folder / "examples.parquet")
        test = 70 + 10 * rate + scale / 10 + seed / 7
        validation = 90.0 if (rate, scale) == (0.3, 1.5) else 60.0
        measures = {"cosine": 1 - rate / 10 - scale / 900, "diversity": rate}
        results.append(
            run(folder, ("sgid",), seed, test=test, validation=validation, noise_rate=rate,
                scale=scale, measures=measures)
        )  # fmt: skip
    page = noise_guidance.render(results)
    assert set(page.figures) == {"maps", "image"}
    assert "chooses noise rate 0.3 and guidance scale 1.5" in text(page)
    assert "The best on the test part is 0.9 and 10" in text(page)
    assert "Accuracy falls with cosine to original over 4 settings: Spearman's ρ = −1.00" in (
        text(page)
    )
    assert len(page.tables["settings"].rows) == 4
    assert encode(page.figures["image"], "png")


def test_expansion_has_the_baseline_as_a_level(tmp_path):
    results = runs(tmp_path, {("flip_crop",): [70.0, 70.3]})
    for ratio, values in {1: [71.0, 71.5], 10: [73.0, 73.1]}.items():
        results += runs(tmp_path, {("sgid",): values}, ratio=ratio)
    page = expansion.render(results)
    gains = column(page, "expansion", "gain over flip_crop (points)")
    assert [cell.text[:5] for cell in gains] == ["+1.10", "+2.90"]
    assert "From 1 to 10 images per original accuracy changes by +1.80" in text(page)


def test_shots_compare_with_the_same_number_of_real_images(tmp_path):
    results = []
    for count, gain in {5: 4.0, 50: 1.0}.items():
        base = {("flip_crop",): [60.0 + count, 61.0 + count]}
        ours = {("sgid",): [60.0 + gain + count, 61.1 + gain + count]}
        results += runs(tmp_path, {**base, **ours}, images_per_class=count)
    page = shots.render(results)
    assert "gain over flip_crop is larger with 5 real images per class (+4.05" in text(page)
    assert [cell.text for cell in column(page, "shots", "real images per class")] == ["5", "50"]


def test_measures_are_averaged_over_stores_and_not_over_runs(tmp_path):
    results = []
    for backbone, seed in product(("small_resnet", "small_vit"), (0, 1)):
        value = {"cosine": 0.9 + 0.05 * seed, "vendi": None}
        results.append(run(tmp_path, ("sgid",), seed, backbone=backbone, measures=value))
    page = consistency.render(results)
    assert column(page, "measures", "stores")[0].text == "2"
    assert column(page, "measures", "cosine to original")[0].text.startswith("0.9250 ±")
    assert "Vendi score" not in page.tables["measures"].headers


def test_the_plane_tells_who_is_more_consistent_and_more_diverse(tmp_path):
    values = {
        "sgid": (0.9, 0.05, 72.0),
        "no_label": (0.95, 0.06, 70.0),
        "no_caption": (0.8, 0.1, 71),
    }
    results = [
        run(tmp_path, (name,), test=top1, measures={"cosine": cosine, "diversity": diversity})
        for name, (cosine, diversity, top1) in values.items()
    ]
    page = plane.render(results)
    assert "more consistent and more diverse than sgid at once: no_label." in text(page)
    assert [cell.text for cell in column(page, "plane", "method")] == [
        "sgid", "no_caption", "no_label",
    ]  # fmt: skip


def test_the_tally_counts_what_the_tests_support(lots):
    found = compare(lots, lambda arms: [Contrast("x", ("sgid",), ("none",))])
    assert "Of 4 comparisons" in tally(found, "better", "worse")
    assert not any(math.isnan(one.difference.value) for one in found)
