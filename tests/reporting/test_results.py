"""Result folders are read back whole, and broken ones are named rather than fatal."""

import json
import logging
from pathlib import Path

import pytest

from sgid.reporting.results import (
    load_result,
    load_results,
    read_correct,
    read_curves,
    read_examples,
)
from sgid.reproducibility import CODE


def test_reads_what_a_run_left(make_run):
    result = make_run(["sgid", "randaugment"], seed=3)
    assert result.aug == ("sgid", "randaugment")
    assert result.seed == 3
    assert result.generated[0].measures["cosine"] == 0.81
    assert len(result.generated[0].histograms["similarity"]["edges"]) == 21
    assert list(result.class_accuracy)[1] == "sneaker"
    correct = read_correct(result.folder)
    assert 100 * sum(correct.values()) / len(correct) == pytest.approx(result.metrics["test/top1"])
    example = read_examples(result.folder)[0]
    assert example.original.startswith(b"\x89PNG") and len(example.images) == 5
    logged = read_curves(result.folder)
    assert len(logged["train/loss"].steps) == 41
    assert logged["validation/top1"].steps == tuple(range(0, 401, 40))


def test_what_generates_nothing_leaves_no_examples(make_run):
    result = make_run(["none"])
    assert result.aug == ("none",) and result.generated == ()
    assert read_examples(result.folder) == []
    (result.folder / "curves.csv").unlink()
    (result.folder / "predictions.parquet").unlink()
    assert read_curves(result.folder) == {} and read_correct(result.folder) == {}


def test_what_a_filter_dropped_is_read(make_run):
    result = make_run(["sgid"], filtered=True)
    filtered = result.generated[0].filter
    assert filtered is not None and (filtered.name, filtered.kept, filtered.dropped) == (
        *("label", 470, 30),
    )
    assert filtered.dropped_per_class["ankle boot & $x_1$"] == 15
    assert read_examples(result.folder)[0].kept == (True, False, True, True, True)
    assert make_run(["sgid"]).generated[0].filter is None


def test_broken_runs_are_named_and_left_out(make_run, caplog):
    first, second = make_run(["none"], seed=1), make_run(["none"], seed=0)
    results = first.folder.parent
    (results / "unfinished").mkdir()  # no result yet, so nothing is wrong with it
    for number, code in enumerate((None, CODE - 1)):
        earlier = make_run(["none"], seed=2 + number).folder / "result.json"
        earlier.write_text(json.dumps({**json.loads(earlier.read_text()), "code": code}))
    (results / "cut").mkdir()
    (results / "cut" / "result.json").write_text((first.folder / "result.json").read_text()[:90])
    (results / "old").mkdir()
    (results / "old" / "result.json").write_text(json.dumps({"fingerprint": "x"}))
    with caplog.at_level(logging.WARNING):
        loaded = load_results(results)
    assert [run.fingerprint for run in loaded] == [first.fingerprint, second.fingerprint]
    assert all(name in caplog.text for name in ("cut", "'choices' is missing"))
    assert "unfinished" not in caplog.text
    assert f"2 runs of an earlier version in {results}." in caplog.text


NO_AUG = '{"fingerprint": "x", "choices": {"aug": []}}'


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"choices": 3, "fingerprint": "x"}', "\xff", NO_AUG]
)
def test_any_nonsense_is_a_value_error(tmp_path: Path, text: str):
    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    said = "names no augmentation" if text == NO_AUG else "result.json"
    with pytest.raises(ValueError, match=said):
        load_result(tmp_path)


def test_a_missing_results_folder_names_the_option(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"paths\.results"):
        load_results(tmp_path / "nowhere")
