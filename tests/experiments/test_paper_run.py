"""The paper's experiments on a scale of seconds: what runs, what is skipped, what is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from experiments.paper import __main__ as command_line
from experiments.paper.cells import Cell
from experiments.paper.running import Going, Runner
from experiments.paper.scales import SCALES, TINY
from sgid.reporting.results import load_result
from tests.end_to_end.command import Place

SMALL = replace(
    TINY,
    name="small",
    options={
        "dataset.shots": "3",
        "steps": "4",
        "trainer.validations": "1",
        "backbone.steps": "4",
        "trainer.device": "cpu",
    },
    seeds=["0"],
    few_shots="2",
)


class Experiments(Place):
    """A folder in which `python -m experiments.paper` is given."""

    @property
    def pages(self) -> Path:
        return self.top / "pages"

    def paper(self, *words: str) -> int:
        wide = {**self.environment, "COLUMNS": "200"}
        with (
            mock.patch.dict(os.environ, wide, clear=True),
            mock.patch.dict(SCALES, small=SCALES.get("small", SMALL)),
            mock.patch("experiments.paper.work.Path", lambda name: self.top / name),
            mock.patch("experiments.paper.expansion.RATIOS", ["1", "2"]),
        ):
            return command_line.main(["scale=small", "--output", str(self.pages), *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Experiments:
    place = Experiments(tmp_path_factory.mktemp("paper"))
    assert place.paper("expansion", "--processes", "2") == 0
    return place


@pytest.mark.slow
def test_all_cells_run_and_their_page_is_written(made):
    assert len(list(made.results.glob("*/result.json"))) == 3
    assert len(list(made.artifacts.glob("generated/*/manifest.json"))) == 2
    page = (made.pages / "expansion.md").read_text()
    assert "Are more images of each original worth making?" in page
    assert "python -m experiments.paper expansion scale=small" in page
    assert "3 runs, finished " in page and "torch " in page
    assert not (made.pages / "README.md").exists()  # of all experiments, and this is one
    names = {path.name for path in made.pages.iterdir()}
    for name in names:
        if name.endswith(".png"):
            assert name.replace(".png", ".svg") in names and f"({name})" in page
    assert any(name.endswith(".png") for name in names)


@pytest.mark.slow
def test_again_it_starts_nothing_and_writes_the_same(made):
    before = {path.name: path.read_bytes() for path in made.pages.iterdir()}
    with mock.patch.object(subprocess, "Popen", side_effect=AssertionError("a run was started")):
        assert made.paper("expansion", "--processes", "2") == 0
    assert {path.name: path.read_bytes() for path in made.pages.iterdir()} == before


@pytest.mark.slow
def test_the_plan_knows_what_is_there_and_what_is_shared(made, capsys):
    assert made.paper("expansion", "shots", "--plan") == 0
    lines = {
        row[0]: row[1:]
        for line in capsys.readouterr().out.splitlines()
        if (row := line.split()) and row[0] in ("expansion", "shots", "all")
    }
    # runs, finished, shared with one above, to run, stores, of them there, images to make
    assert lines["expansion"][:7] == ["3", "3", "0", "0", "2", "2", "0"]
    # 4 shots, 4 augmentations of which two generate; none has 2 images per class
    assert lines["shots"][:7] == ["16", "0", "0", "16", "8", "0", f"{2 * 5 * 850:,}"]
    assert lines["all"][:4] == ["19", "3", "0", "16"]


def test_a_run_that_fails_is_named_with_its_reason(tmp_path, capsys):
    place = Experiments(tmp_path)
    taken = tmp_path / "taken"
    taken.write_text("a file where the results should go")
    tracked = ["logger=wandb", "logger.project=tests"]
    with (
        mock.patch("experiments.paper.case_study.SGID", ["[flip_crop]"]),
        mock.patch.dict(os.environ, WANDB_MODE="offline"),
    ):
        assert place.paper("case_study", f"paths.results={taken}", *tracked) == 1
    said = capsys.readouterr().out
    assert "missing: python run.py" in said and "aug=[flip_crop]" in said
    assert "Not a directory" in said and "error.txt" in said


@pytest.mark.slow
def test_the_plan_needs_neither_images_nor_weights(made, capsys):
    far = replace(SMALL, datasets=["cars", "pets"], many_seeds=["0"])
    with mock.patch.dict(SCALES, small=far):
        assert made.paper("ablation", "--plan") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The images of cars, pets, or the weights for them, are not here" in said
    assert re.search(r"ablation (\d+) 0 0 \1 (\d+) 0 0 –", said).groups() == ("14", "12")


@pytest.mark.slow
def test_a_page_is_not_lost_where_its_runs_are_not(made, tmp_path):
    before = (made.pages / "expansion.md").read_bytes()
    assert made.paper("expansion", "--render", f"paths.results={tmp_path}") == 1
    assert (made.pages / "expansion.md").read_bytes() == before


def test_what_is_stopped_takes_along_what_it_started(tmp_path):
    runner = Runner([], 1, tmp_path)
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    started = subprocess.Popen(sleeper, start_new_session=True)
    cell = Cell("a", {"seed": "0"}, tmp_path / "result", False, "small_resnet", ())
    with (
        mock.patch.object(Runner, "_start", return_value=Going(started, tmp_path / "log", [])),
        mock.patch(
            "experiments.paper.running.time", sleep=mock.Mock(side_effect=KeyboardInterrupt)
        ),
        pytest.raises(KeyboardInterrupt),
    ):
        runner.run([cell])
    assert started.poll() is not None


def test_a_process_that_dies_is_named_with_its_log(tmp_path):
    runner = Runner(["hydra/launcher=nope"], 1, tmp_path / "logs")
    cell = Cell("a", {"seed": "0"}, tmp_path / "result", False, "small_resnet", ())
    runner.run([cell])
    assert runner.reason(cell) == f"its process ended with code 1, see {tmp_path}/logs/000.log"
    assert "hydra/launcher" in (tmp_path / "logs" / "000.log").read_text()


@pytest.mark.slow
def test_a_classifier_that_is_not_there_is_trained_first(made, capsys):
    """Also where the runs whose images it labels were finished before."""
    with (
        mock.patch("experiments.paper.consistency.GENERATIVE", []),
        mock.patch("experiments.paper.consistency.WITHOUT_A_PART", []),
    ):
        assert made.paper("consistency", "--processes", "1") == 0
        page = (made.pages / "consistency.md").read_text()
        assert "label agreement, classifier" in page
        results = [load_result(file.parent) for file in made.results.glob("*/result.json")]
        classified = [one for one in results if one.generated and one.generated[0].classifier]
        (classifier,) = [one for one in results if one.config["dataset"]["shots"] is None]
        assert len(classified) == 1
        assert classified[0].generated[0].classifier["fingerprint"] == classifier.fingerprint
        (classifier.folder / "result.json").rename(classifier.folder / "lost.json")
        capsys.readouterr()
        assert made.paper("consistency", "--plan") == 0
        (classifier.folder / "lost.json").rename(classifier.folder / "result.json")
    assert "1 runs have no predictions" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_mistake_is_refused_before_any_work(made, capsys):
    assert made.paper("expansion", "noise_rat=0.5") == 1
    assert "did you mean noise_rate?" in capsys.readouterr().err
    assert made.paper("expansion", "--processes", "0") == 1
    assert "at least 1" in capsys.readouterr().err
