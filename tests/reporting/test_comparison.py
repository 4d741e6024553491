"""The comparison table's numbers against scipy on the same data."""

import pytest
from scipy import stats

from sgid.evaluation.statistics import holm
from sgid.reporting.comparison import comparison_table
from sgid.reporting.format import p_text
from sgid.reporting.report import write_report


@pytest.fixture
def sweep(make_run):
    """flip_crop, RandAugment, SGID and both, over three seeds."""
    skill = {"flip_crop": 0.60, "randaugment": 0.63, "sgid": 0.66, "sgid+randaugment": 0.72}
    return [
        make_run(name.split("+"), seed, skill=value + 0.01 * ((seed * len(name)) % 3))
        for name, value in skill.items()
        for seed in range(3)
    ]


def texts(table, header: str) -> list[str]:
    return [row[table.headers.index(header)].text for row in table.rows]


def test_rows_are_arms_in_order_and_columns_what_varies(sweep):
    table = comparison_table(sweep)
    assert table.headers == (
        "augmentation",
        "seeds",
        "test top-1 (%)",
        "validation top-1 (%)",
        "vs flip_crop (points)",
        "vs perturbation alone (points)",
    )
    assert texts(table, "augmentation") == [
        "flip_crop",
        "randaugment",
        "sgid",
        "sgid + randaugment",
    ]
    assert texts(table, "seeds") == ["3"] * 4
    assert "dataset fashion, backbone small_resnet, models tiny" in table.notes[0]
    assert any("test 400" in note and "train 40" in note for note in table.notes)


def test_numbers_are_scipys(sweep):
    top1 = [run.metrics["test/top1"] for run in sweep]
    base, randaugment, sgid, both = (top1[index : index + 3] for index in range(0, 12, 3))
    pairs = [(randaugment, base), (sgid, base), (both, base), (both, randaugment)]
    tests = [stats.ttest_rel(a, b) for a, b in pairs]
    corrected = holm([float(test.pvalue) for test in tests])
    expected = []
    for (a, b), test, p in zip(pairs, tests, corrected, strict=True):
        interval = test.confidence_interval()
        value, half = sum(a) / 3 - sum(b) / 3, (interval.high - interval.low) / 2
        bold = (interval.low > 0 or interval.high < 0) and p < 0.05
        expected.append((f"{value:+.2f} ± {half:.2f}, {p_text(p)}".replace("-", "−"), bold))

    table = comparison_table(sweep)
    column = table.headers.index("vs flip_crop (points)")
    cells = [row[column] for row in table.rows[1:]] + [table.rows[3][column + 1]]
    assert [(cell.text, cell.bold) for cell in cells] == expected
    assert [row[column].text for row in table.rows[:1]] == ["–"]
    assert {bold for _, bold in expected} == {True, False}

    half = stats.t.ppf(0.975, 2) * stats.sem(base)
    assert texts(table, "test top-1 (%)")[0] == f"{sum(base) / 3:.2f} ± {half:.2f}"


def test_one_seed_shows_wilson_and_claims_nothing(make_run):
    runs = [make_run(["flip_crop"], skill=0.5), make_run(["sgid"], skill=0.9)]
    table = comparison_table(runs)
    metrics = runs[1].metrics
    interval = f"[{metrics['test/top1_low']:.2f}, {metrics['test/top1_high']:.2f}]"
    assert texts(table, "test top-1 (%)")[1] == f"{metrics['test/top1']:.2f} {interval}"
    lead = table.rows[1][table.headers.index("vs flip_crop (points)")]
    assert not lead.bold and "±" not in lead.text and "p" not in lead.text
    assert any("Wilson" in note for note in table.notes)
    assert any("not tested" in note for note in table.notes)


def test_pairs_are_of_equal_seeds_and_missing_ones_are_counted(make_run):
    runs = [make_run(["sgid"], seed, skill=0.7 + 0.01 * seed) for seed in (0, 1, 2)]
    runs += [make_run(["flip_crop"], seed) for seed in (1, 2, 3)]
    table = comparison_table(runs)
    top1 = {(run.aug, run.seed): run.metrics["test/top1"] for run in runs}
    mean = sum(top1[("sgid",), seed] - top1[("flip_crop",), seed] for seed in (1, 2)) / 2
    cell = texts(table, "vs flip_crop (points)")[0]
    assert cell.startswith(f"{mean:+.2f}") and cell.endswith("2 of 3 seeds")


def test_knobs_and_choices_become_columns_only_when_they_vary(make_run):
    runs = [
        make_run(aug, noise_rate=rate, backbone=backbone)
        for backbone in ("small_resnet", "vit")
        for aug, rate in ((["flip_crop"], 0.5), (["sgid"], 0.5), (["sgid"], 0.7))
    ]
    table = comparison_table(runs)
    assert table.headers[:4] == ("backbone", "augmentation", "noise_rate", "seeds")
    assert texts(table, "noise_rate") == ["–", "0.5", "0.7"] * 2
    assert texts(table, "backbone") == ["small_resnet"] * 3 + ["vit"] * 3


def test_a_filter_is_a_column_where_it_varies(make_run):
    runs = [make_run(["flip_crop"]), make_run(), make_run(filtered=True)]
    table = comparison_table(runs)
    assert table.headers[:2] == ("filter", "augmentation")
    assert texts(table, "filter") == ["–", "none", "label"]


def test_no_augmentation_has_a_difference_to_flip_crop_too(make_run):
    runs = [make_run([aug], skill=skill) for aug, skill in (("none", 0.5), ("flip_crop", 0.6))]
    runs += [make_run(["none", "sgid"], skill=0.7)]
    table = comparison_table(runs)
    assert texts(table, "augmentation") == ["none", "flip_crop", "none + sgid"]
    none, flip_crop, both = (run.metrics["test/top1"] for run in runs)
    signed = [f"{value:+.2f}".replace("-", "−") for value in (none - flip_crop, both - flip_crop)]
    assert texts(table, "vs flip_crop (points)") == [signed[0], "–", signed[1]]
    assert texts(table, "vs perturbation alone (points)") == ["–", "–", f"{both - none:+.2f}"]


def test_no_baseline_no_column_and_no_runs_no_rows(make_run):
    assert not any("vs" in header for header in comparison_table([make_run(["sgid"])]).headers)
    assert comparison_table([]).rows == ()


@pytest.mark.parametrize(
    ("aug", "dataset", "told"),
    [
        (("sgid",), "fashion", ()),
        (("sgid",), "cars", ("models=tiny knows clothing and nothing else",)),
        (("flip_crop",), "cars", ()),
        (("flip_crop",), "photos", ("were trained on images of photos",)),
        (("sgid", "randaugment"), "photos", ("knows clothing", "trained on images of photos")),
    ],
)
def test_what_models_cannot_show_is_said_wherever_results_are(make_run, aug, dataset, told):
    result = make_run(aug, dataset=dataset)
    notes = "\n".join(comparison_table([result]).notes)
    page = write_report(result.folder, None).read_text(encoding="utf-8")
    for text in (notes, page):
        assert text.count("models=tiny ") == len(told) and all(words in text for words in told)
