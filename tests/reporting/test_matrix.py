"""The matrix's numbers against scipy on the same data, and that a terminal can hold it."""

import io

import pytest
from rich.console import Console
from scipy import stats

from sgid.evaluation.statistics import holm
from sgid.reporting.comparison import matrix_table
from sgid.reporting.table import Cell
from tests.reporting.conftest import AUGS

SKILL = {"flip_crop": 0.60, "none": 0.25, "sgid": 0.66, "sgid+randaugment": 0.72}


@pytest.fixture
def grid(make_run):
    """Four augmentations, two datasets, two backbones, three seeds."""
    return [
        make_run(
            aug.split("+"),
            seed,
            skill=skill + 0.02 * index + 0.01 * ((seed * len(aug)) % 3),
            dataset=dataset,
            backbone=backbone,
        )
        for index, (dataset, backbone) in enumerate(
            (d, b) for d in ("fashion", "cars") for b in ("small_resnet", "vit")
        )
        for aug, skill in SKILL.items()
        for seed in range(3)
    ]


def test_cells_are_scipys_and_only_leads_are_bold(grid):
    top1 = [
        [
            [run.metrics["test/top1"] for run in grid[at : at + 3]]
            for at in range(start, start + 12, 3)
        ]
        for start in range(0, 48, 12)
    ]  # columns × rows × seeds
    tests = {
        (column, row): stats.ttest_rel(top1[column][row], top1[column][0])
        for column in range(4)
        for row in (1, 2, 3)
    }
    ps = holm([float(test.pvalue) for test in tests.values()])
    corrected = dict(zip(tests, ps, strict=True))

    table = matrix_table(grid)
    assert table is not None
    assert table.headers == (
        "augmentation",
        *("fashion small_resnet", "fashion vit", "cars small_resnet", "cars vit"),
    )
    assert [row[0].text for row in table.rows] == [
        "flip_crop",
        "none",
        "sgid",
        "sgid + randaugment",
    ]
    for column, values in enumerate(top1):
        for row, sample in enumerate(values):
            half = stats.t.ppf(0.975, 2) * stats.sem(sample)
            text, bold = f"{sum(sample) / 3:.2f} ± {half:.2f}", False
            if row:
                lead = (sum(sample) - sum(values[0])) / 3
                text += f" ({lead:+.2f})".replace("-", "−")
                low = tests[column, row].confidence_interval().low
                bold = low > 0 and corrected[column, row] < 0.05
            assert table.rows[row][column + 1] == Cell(text, bold)
    bolds = [cell.bold for row in table.rows for cell in row]
    assert any(bolds) and not all(row[1].bold for row in table.rows[1:])
    worse = [cell for cell, test in tests.items() if test.confidence_interval().high < 0]
    assert min(corrected[cell] for cell in worse) < 0.05, "what is surely worse is there, not bold"
    notes = " ".join(table.notes)
    assert "Means over 3 seeds" in notes and "Holm-corrected over the 12 tested" in notes


def test_one_dataset_and_one_backbone_need_none(make_run):
    assert matrix_table([]) is None
    assert matrix_table([make_run(["flip_crop"]), make_run(["sgid"]), make_run(seed=1)]) is None


def test_what_else_varies_parts_the_rows(make_run):
    runs = [
        make_run(aug, noise_rate=rate, backbone=backbone, filtered=filtered)
        for backbone in ("small_resnet", "vit")
        for aug, rate, filtered in (
            (["flip_crop"], 0.5, False),
            (["sgid"], 0.5, False),
            (["sgid"], 0.7, False),
            (["sgid"], 0.7, True),
        )
    ]
    table = matrix_table(runs[:-1])
    assert table is not None
    labels = [tuple(cell.text for cell in row[:3]) for row in table.rows]
    assert table.headers[:3] == ("augmentation", "filter", "noise_rate")
    assert labels == [
        ("flip_crop", "–", "–"),
        ("sgid", "none", "0.5"),
        ("sgid", "none", "0.7"),
        ("sgid", "label", "0.7"),
    ]
    assert table.rows[3][4] == Cell("–"), "a cell without a run"
    assert "(" in table.rows[1][3].text and "±" not in table.rows[1][3].text
    assert any("One seed each" in note for note in table.notes)


def test_models_that_come_with_a_dataset_part_nothing(make_run):
    runs = [make_run(), make_run(dataset="cars", shots=4)]
    runs[1].choices["models"] = "sd15"
    table = matrix_table(runs)
    assert table is not None and table.headers == ("augmentation", "fashion", "cars")
    assert len(table.rows) == 1


def test_missing_pairs_are_named(make_run):
    runs = [
        make_run(["sgid"], seed, backbone=b) for b in ("small_resnet", "vit") for seed in (0, 1)
    ]
    runs += [make_run(["flip_crop"], 1, backbone="vit")]
    table = matrix_table(runs)
    assert table is not None
    assert "(" not in table.rows[0][1].text and table.rows[0][2].text.endswith(", 1 of 2 seeds)")
    assert "Means over 1 to 2 seeds" in " ".join(table.notes)
    assert "none could be tested" in " ".join(table.notes)


def test_21_augmentations_and_3_backbones_fit_a_terminal(make_run, monkeypatch):
    names = [f"augmentation_{index:02d}" for index in range(20)]
    monkeypatch.setattr(
        "tests.reporting.conftest.AUGS",
        {name: {"slot": "online"} for name in names} | {"flip_crop": AUGS["flip_crop"]},
    )
    runs = [
        make_run([aug], seed, skill=0.6 + 0.01 * seed, backbone=backbone, images=40)
        for backbone in ("resnet50", "vit", "clip_vit")
        for aug in ("flip_crop", *names)
        for seed in (0, 1)
    ]
    table = matrix_table(runs)
    assert table is not None and len(table.rows) == 21
    stream = io.StringIO()
    table.print(Console(file=stream, width=120, force_terminal=True, color_system=None))
    lines = [line for line in stream.getvalue().splitlines() if "±" in line and "aug" in line]
    assert len(lines) == 20, "a row of the table is a line of the terminal"
    assert all(line.count("±") == 3 and line.count("(") == 3 for line in lines)
