"""`-m`: what a sweep shares, what it ends with, and what a job that fails does to it."""

from __future__ import annotations

import time

import pytest

from sgid.reporting.sweep import read_jobs
from tests.end_to_end.command import Place

SWEEP = ("-m", "noise_rate=0.3,0.5,0.7", "guidance.max=4,7.5")


@pytest.fixture(scope="module")
def swept(own, tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("sweep"))
    place.run(*own, *SWEEP).good()
    return place


def test_one_store_of_captions_six_of_images_one_table(swept):
    assert len(list(swept.artifacts.glob("described/*/manifest.json"))) == 1
    assert len(list(swept.artifacts.glob("generated/*/manifest.json"))) == 6
    assert len(list(swept.results.glob("*/result.json"))) == 6
    (table,) = (swept.top / "hydra").glob("table.md")
    text = table.read_text().replace("\\_", "_")
    assert "6 of 6 runs finished" in text
    assert "noise_rate" in text and "guidance.max" in text


def test_again_it_does_nothing(swept, own):
    before = swept.files()
    outcome = swept.run(*own, *SWEEP).good()
    assert outcome.out.count("done before") == 6
    assert swept.files() == before


def test_stages_without_a_result_have_no_table_and_do_not_count_as_failed(swept, own, tmp_path):
    for stage in ("data", "augment"):
        outcome = swept.run(*own, *SWEEP, f"stage={stage}", f"hydra.sweep.dir={tmp_path}").good()
        assert "finished" not in outcome.out and "Failed" not in outcome.text
    assert not list(tmp_path.glob("table.*"))


def test_a_job_that_fails_is_named_and_the_others_run(swept, own, tmp_path):
    outcome = swept.spawn(*own, "-m", "noise_rate=2,0.5", f"hydra.sweep.dir={tmp_path}")
    assert outcome.code == 1, outcome.text
    assert "Traceback" not in outcome.text
    assert outcome.err.count("noise_rate=2.0: must be above 0, at most 1") == 1
    # Above the table, and in the last line.
    assert outcome.out.count("1 of 2 runs finished, 1 failed") == 2
    (table,) = tmp_path.glob("table.md")
    text = table.read_text().replace("\\", "")
    assert "Failed: noise_rate=2.0: must be above 0, at most 1. Again: python run.py" in text
    assert "noise_rate=2 (log in" in text
    assert outcome.out.count("done before") == 1
    said, _, trace = (tmp_path / "0" / "error.txt").read_text().partition("\n\n")
    assert said == "noise_rate=2.0: must be above 0, at most 1"
    assert "Traceback" in trace and "ValueError" in trace


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(own, place):
    sweep = (*own, "-m", "noise_rate=0.3,0.5,0.7")
    process = place.start(*sweep)
    limit = time.monotonic() + 600
    while not list(place.top.glob("hydra/1/.hydra/overrides.yaml")):
        assert process.poll() is None and time.monotonic() < limit, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    jobs = read_jobs(place.top / "hydra")
    assert [job.finished for job in jobs] == [True, False]
    assert jobs[1].reason is None
    outcome = place.run(*sweep).good()
    assert outcome.out.count("done before") == 1
    assert "3 of 3 runs finished" in outcome.out and "same command" not in outcome.out
