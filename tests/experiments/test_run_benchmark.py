"""The clock of `python run.py`: what counts for what, and that it is taken of the real command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from experiments.benchmarks.run import CLOCKED, PARTS, ROOT, divide
from tests.data.writers import write_folder


def test_a_moment_counts_once_for_the_first_of_the_parts_that_run_then():
    intervals = [
        ("rest of augment", 1.0, 9.0),
        ("UNet", 2.0, 4.0),  # two threads at once
        ("UNet", 3.0, 6.0),
        ("VAE", 5.0, 7.0),
        ("imports", 6.5, 7.5),
    ]
    seconds = divide(intervals, 0.0, 10.0)
    assert {name: value for name, value in seconds.items() if value} == pytest.approx(
        {"UNet": 4.0, "VAE": 0.5, "imports": 1.0, "rest of augment": 2.5, "rest": 2.0}
    )


def test_the_parts_add_up_to_the_time_between_the_borders():
    intervals = [("training", -5.0, 2.0), ("test", 3.0, 20.0), ("report", 30.0, 31.0)]
    seconds = divide(intervals, 0.0, 10.0)
    assert sum(seconds.values()) == pytest.approx(10.0)
    assert seconds["training"] == 2.0 and seconds["test"] == 7.0 and seconds["report"] == 0.0


def test_every_clock_belongs_to_a_part():
    assert set(CLOCKED.values()) <= set(PARTS)


@pytest.mark.slow
def test_it_clocks_the_real_command_and_takes_its_exit_code(tmp_path):
    file = tmp_path / "clock.json"
    command = [sys.executable, "-m", "experiments.benchmarks.run", "--clock", str(file)]
    images = write_folder(tmp_path / "images", {"bag": 8, "coat": 8}, size=32)
    options = ["stage=data", "dataset=folder", f"dataset.root={images}", "models=tiny"]
    options += [f"paths.artifacts={tmp_path}", f"hydra.run.dir={tmp_path}/hydra"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {name for name, _, _ in json.loads(file.read_text())["intervals"]}
    assert {"images", "imports", "job"} <= names
    done = subprocess.run([*command, "steps=-1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "steps=-1" in done.stderr
