"""The pages of the paper's experiments say what their results say, and no more."""

import io
from importlib import import_module
from itertools import product

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments.paper import (
    ablation,
    combination,
    consistency,
    expansion,
    noise_guidance,
    plane,
    shots,
)
from experiments.paper.page import Page
from sgid.reporting.figure_files import encode
from tests.experiments.finished import column, lots, run, runs, text


@pytest.mark.parametrize(
    "name",
    ["main", "combination", "ablation", "noise_guidance", "expansion", "shots", "consistency",
     "plane"],
)  # fmt: skip
class TestEveryPage:
    def test_it_stands_several_datasets_backbones_and_gaps(self, name, tmp_path):
        many = lots(tmp_path)
        render = import_module(f"experiments.paper.{name}").render
        whole = render(many)
        assert whole.findings and whole.tables and whole.figures
        assert set(whole.captions) == set(whole.figures)
        assert all(encode(figure, "svg") for figure in whole.figures.values())
        for table in whole.tables.values():
            assert {len(row) for row in table.rows} == {len(table.headers)}
        # every third run has not finished
        page = render([one for index, one in enumerate(many) if index % 3 != 1])
        assert "nan" not in text(page)
        for table in page.tables.values():
            assert "nan" not in table.markdown()

    def test_it_stands_one_seed_and_no_runs(self, name, tmp_path):
        render = import_module(f"experiments.paper.{name}").render
        page = render(
            [one for one in lots(tmp_path) if one.seed == 0 and one.choices["dataset"] == "cars"]
        )
        assert "nan" not in text(page)
        assert not any(
            cell.bold for table in page.tables.values() for row in table.rows for cell in row
        )
        assert render([]) == Page()


def test_combination_compares_each_augmentation_with_itself_and_sgid(tmp_path):
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
    said = "Accuracy and cosine to original: Spearman's ρ = −1.00 over 4 settings: described, not"
    assert said in text(page) and "p = " not in text(page)
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
