"""Ratings that were planted come out as they should, beside what other libraries make of them."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from dataclasses import replace

import krippendorff
import numpy as np
import pytest
from scipy import stats

from experiments.paper import human
from sgid.human_study.__main__ import main
from sgid.human_study.questions import UNCHANGED
from sgid.human_study.results import (
    alpha,
    differences,
    inattentive,
    score,
    shown,
    values,
    write_results,
)
from sgid.human_study.study import FILE, Rating, Study, write_study
from tests.experiments.finished import run
from tests.human_study.conftest import METHODS, questions


def rating(rater, method, key, value, kind="consistency") -> Rating:
    return Rating(rater, kind, method, key, "bag", value, 1.0, "2026-01-01")


def planted(seed=0, originals=8, raters=3) -> list[Rating]:
    """Ratings of each method, around a level of its own."""
    rng = np.random.default_rng(seed)
    levels = dict(zip(METHODS, (4.2, 2.2, 3.4), strict=True))
    return [
        rating(rater, method, f"key{i}", int(np.clip(round(rng.normal(level, 0.6)), 1, 5)))
        for method, level in levels.items()
        for i in range(originals)
        for rater in range(1, raters + 1)
    ]


def test_a_mean_counts_each_original_once():
    ratings = [rating(r, "sgid", "much", 5) for r in range(1, 10)]
    ratings += [rating(1, "sgid", "little", 1), rating(2, "sgid", "little", None)]
    estimate = score(values(ratings, "consistency", "sgid"))
    assert (estimate.value, estimate.n) == (3.0, 2)
    same = [rating(r, "sgid", key, 3 + r) for r in (0, 1) for key in "abc"]
    estimate = score(values(same, "consistency", "sgid"))  # no spread, no interval
    assert (estimate.value, estimate.n) == (3.5, 3) and math.isnan(estimate.half_width)


def test_the_interval_is_scipys_over_originals():
    ratings = planted()
    means = [
        np.mean([o.value for o in ratings if (o.method, o.key) == ("sgid", f"key{i}")])
        for i in range(8)
    ]
    low, high = stats.t.interval(0.95, 7, np.mean(means), stats.sem(means))
    estimate = score(values(ratings, "consistency", "sgid"))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_differences_are_paired_over_originals_and_holm_corrected():
    ratings = planted()
    table = {
        method: [
            np.mean([o.value for o in ratings if (o.method, o.key) == (method, f"key{i}")])
            for i in range(8)
        ]
        for method in METHODS
    }
    found = differences(ratings, "consistency", METHODS)
    assert list(found) == [(a, b) for n, a in enumerate(METHODS) for b in METHODS[n + 1 :]]
    raw = [stats.ttest_rel(table[a], table[b]) for a, b in found]
    from statsmodels.stats.multitest import multipletests

    expected = multipletests([one.pvalue for one in raw], method="holm")[1]
    assert [one.p for one in found.values()] == pytest.approx(expected)
    assert found["sgid", "text2img_label"].value == pytest.approx(
        np.mean(table["sgid"]) - np.mean(table["text2img_label"])
    )


def test_who_rated_only_one_of_two_methods_does_not_shift_their_difference():
    ratings = [
        rating(1, m, f"key{i}", 3 + (m == "sgid") * (i % 2)) for m in METHODS for i in range(4)
    ]
    before = differences(ratings, "consistency", METHODS)
    harsh = [rating(2, "sgid", f"key{i}", 1) for i in range(4)]
    assert differences(ratings + harsh, "consistency", METHODS) == pytest.approx(
        before, nan_ok=True
    )


def test_alpha_is_that_of_the_published_example():
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011: ordinal data, .815."""
    data = """1 2 3 3 2 1 4 1 2 * * *
              1 2 3 3 2 2 4 1 2 5 * 3
              * 3 3 3 2 3 4 2 2 5 1 *
              1 2 3 3 2 4 4 1 2 5 1 *"""
    ratings = [
        rating(rater, "sgid", f"key{i}", int(word))
        for rater, line in enumerate(data.splitlines())
        for i, word in enumerate(line.split())
        if word != "*"
    ]
    found, questions = alpha(ratings, "consistency")
    assert found == pytest.approx(0.815, abs=5e-4) and questions == 11


def test_alpha_leaves_out_checks_and_skips_and_keeps_methods_apart():
    ratings = planted()
    more = [rating(r, UNCHANGED, "key0", 5) for r in (1, 2, 3)]
    more += [rating(4, "sgid", "key0", None), rating(9, "sgid", "alone", 1)]
    assert alpha(ratings + more, "consistency") == alpha(ratings, "consistency")
    table = np.array([o.value for o in ratings], float).reshape(-1, 3).T
    expected = krippendorff.alpha(table, level_of_measurement="ordinal", value_domain=range(1, 6))
    assert alpha(ratings, "consistency") == (pytest.approx(expected), 24)


def test_alpha_is_unknown_where_nothing_can_be_said(monkeypatch):
    assert math.isnan(alpha([rating(1, "sgid", "a", 3)], "consistency")[0])
    same = [rating(r, "sgid", key, 3) for r in (1, 2) for key in "ab"]
    assert math.isnan(alpha(same, "consistency")[0])
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(ValueError, match=r"pip install 'sgid\[human\]'"):
        alpha(planted(), "consistency")


def test_who_fails_a_check_is_found():
    ratings = [
        rating(1, UNCHANGED, "a", 5), rating(1, UNCHANGED, "a", 1, "diversity"),
        rating(2, UNCHANGED, "a", 2), rating(3, UNCHANGED, "a", 5, "diversity"),
        rating(4, UNCHANGED, "a", None), rating(5, "sgid", "a", 1),
    ]  # fmt: skip
    assert inattentive(ratings) == {2, 3}


def answer(study, name, value) -> None:
    """All questions of a new rater, with `value(question)`."""
    rater = study.add_rater(name)
    for position in range(1, rater.total + 1):
        turn = study.turn(rater, position)
        study.rate(rater, turn, value(turn.question), 2.0)


def by_method(question):
    """The rating of a careful rater, a little different for each original."""
    if question.method == UNCHANGED:
        return 5 if question.kind == "consistency" else 1
    level = {"sgid": 4, "text2img_label": 1, "img2img_label": 3}[question.method]
    return level + (question.key in ("key1", "key2") and question.method != "img2img_label")


def test_results_are_written_in_all_forms(study, folder):
    answer(study, "Ada", by_method)
    answer(study, "Bob", by_method)
    written = write_results(study.path.parent, folder, attentive=False)
    names = {
        f"{name}.{form}" for name in ("ratings", "comparisons") for form in ("md", "tex", "html")
    }
    assert {path.name for path in folder.iterdir()} == names | {
        "ratings.png", "ratings.svg", "ratings.csv"
    }  # fmt: skip
    ratings, comparisons = written.tables
    rows = [[cell.text for cell in row] for row in ratings.rows]
    assert [row[:2] for row in rows[:4]] == [
        ["semantic consistency", name] for name in (*METHODS, f"{UNCHANGED} (check)")
    ]
    assert rows[0][2:] == ["4.50 ± 0.92", "4", "8", "0", "2", "2.0"]
    assert rows[3][2:] == ["5.00", "1", "2", "0", "2", "2.0"]
    notes = " ".join(ratings.notes)
    assert "semantic consistency: 1.00, over 12 questions" in notes
    assert "none of 2 raters failed one" in notes
    assert comparisons.rows[0][1].text == "sgid − text2img_label"
    assert comparisons.rows[0][3].text == "+3.00"  # the same for every original: no spread
    cells = {row[1].text: row[3] for row in comparisons.rows if row[0].text == "image diversity"}
    assert cells["sgid − img2img_label"].text == "+1.50 ± 0.92, p = .028"
    assert cells["sgid − img2img_label"].bold, "a lead that the test supports"
    assert not cells["sgid − text2img_label"].bold
    assert "Ada" not in (folder / "ratings.csv").read_text() + (folder / "ratings.html").read_text()
    lines = list(csv.DictReader((folder / "ratings.csv").open()))
    assert len(lines) == 2 * 26 and {line["rater"] for line in lines} == {"1", "2"}


def test_who_failed_or_answered_no_check_can_be_left_out(study, folder, capsys):
    answer(study, "Ada", by_method)
    answer(study, "Bob", lambda question: 3)
    notes = " ".join(write_results(study.path.parent, folder, attentive=False).tables[0].notes)
    assert "1 of 2 raters failed one" in notes
    rater = study.add_rater("Cleo")
    position = next(i for i in range(1, 27) if study.turn(rater, i).question.method != UNCHANGED)
    study.rate(rater, study.turn(rater, position), 3, 1.0)
    written = write_results(study.path.parent, folder, attentive=True)
    assert {row[6].text for row in written.tables[0].rows} == {"1"}
    left_out = "1 of 3 raters failed one, and 1 answered none: they are left out"
    assert left_out in " ".join(written.tables[0].notes)
    lines = list(csv.DictReader((folder / "ratings.csv").open()))
    assert len(lines) == 26 and {line["rater"] for line in lines} == {"1"}
    for more, name in (((), "results"), (("--attentive",), "results-attentive")):
        assert not (study.path.parent / name).exists()
        assert main(["results", str(study.path.parent), *more]) == 0
        assert (study.path.parent / name / "ratings.csv").is_file()


def test_no_ratings_yet(study, folder):
    with pytest.raises(ValueError, match="no ratings yet.*human_study serve"):
        write_results(study.path.parent, folder, attentive=False)
    rater = study.add_rater("Ada")
    study.rate(rater, study.turn(rater, 1), None, 1.0)
    with pytest.raises(ValueError, match="no ratings yet"):
        write_results(study.path.parent, folder, attentive=False)
    study.rate(rater, study.turn(rater, 1), 3, None)  # one is enough for a table
    tables = write_results(study.path.parent, folder, attentive=False).tables
    assert sum(row[2].text == "3.00" for row in tables[0].rows) == 1
    assert {row[3].text for row in tables[1].rows} == {"–"}
    shutil.rmtree(folder)
    answer(study, "Bob", lambda question: 3)
    with pytest.raises(ValueError, match="leave out --attentive"):
        write_results(study.path.parent, folder, attentive=True)
    assert not folder.exists()


def test_the_paper_page_shows_what_is_written(study, folder):
    assert shown(study.path.parent) is None
    answer(study, "Ada", by_method)
    tables, figure = shown(study.path.parent)
    assert list(tables.values()) == write_results(study.path.parent, folder, attentive=False).tables
    assert [axes.get_title() for axes in figure.axes] == ["semantic consistency", "image diversity"]


def run_of(stores, tmp_path):
    return replace(
        run(tmp_path, ("sgid",)),
        overrides=["dataset=fashion", f"paths.artifacts={tmp_path}", "aug=[sgid]", "seed=0"],
        generated=tuple(
            replace(run(tmp_path, ("sgid",)).generated[0], method=method, path=f"generated/{name}")
            for method, name in stores.items()
        ),
    )


def test_the_paper_page_shows_no_study_of_other_images(tmp_path):
    stores = {method: f"{method}-0" for method in METHODS}
    about = {"dataset": "fashion", "methods": list(METHODS), "seed": 0, "stores": stores}
    folder = tmp_path / "human" / "fashion"
    write_study(folder / FILE, about, {}, questions())
    answer(Study(folder), "Ada", by_method)
    assert human.render([run_of(stores, tmp_path)]).tables
    for other, said in (
        (stores | {"sgid": "sgid-1"}, "sgid was generated with other options"),
        (stores | {"no_label": "no_label-0"}, "it lacks no_label"),
        ({"sgid": "sgid-0"}, "it has text2img_label, img2img_label, which no run trained on"),
    ):
        page = human.render([run_of(other, tmp_path)])
        assert not page.tables and not page.figures
        assert said in page.findings[0] and "are not shown" in page.findings[0]
