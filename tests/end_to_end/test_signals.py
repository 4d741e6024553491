"""Ctrl-C and `kill` end a run in any stage with a message and nothing half written."""

from __future__ import annotations

import shlex
import signal
import sys
import time

import pytest

from tests.end_to_end.command import Place

LONGER = (
    "expansion=6", "store.shard_size=1", "backbone.steps=48", "trainer.validations=8",
    "backbone.batch_size=16",
)  # fmt: skip


def stopped(place: Place, number: int, pattern: str, *given: str) -> tuple[int, str, str]:
    """Start, and signal when there is one file more of a pattern; the code, output and errors."""
    before = set(place.top.glob(pattern))
    process = place.start(*given)
    limit = time.monotonic() + 600
    while set(place.top.glob(pattern)) <= before:
        assert process.poll() is None and time.monotonic() < limit, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def check(place: Place, number: int, code: int, err: str, *given: str) -> None:
    assert code == 128 + number, err
    assert f"Stopped by {signal.Signals(number).name}. What is done is kept" in err
    assert shlex.join(["python", *place.arguments(given)]) in err
    assert "Traceback" not in err and "Exception ignored" not in err
    assert not list(place.top.rglob("*.tmp"))


def test_a_stop_while_libraries_are_imported(place, own):
    """In each stage after that: `experiments.chaos`."""
    code, _, err = stopped(place, signal.SIGINT, "hydra/.hydra/overrides.yaml", *own)
    check(place, signal.SIGINT, code, err, *own)
    assert not place.files()


def test_a_stop_ends_a_sweep_and_its_table_tells(place, own):
    given = (*own, *LONGER, "-m", "noise_rate=0.3,0.5,0.7")
    code, out, err = stopped(place, signal.SIGTERM, "artifacts/described/*/part-*.parquet", *given)
    check(place, signal.SIGTERM, code, err, *given)
    assert "0 of 3 runs finished, 1 stopped, 2 not run" in out
    assert "Stopped or killed. Again: python run.py" in " ".join(out.split())


@pytest.mark.slow
def test_what_nohup_has_ignored_stays_ignored(place, own):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = place.start(*own, "stage=augment")
    finally:
        signal.signal(signal.SIGINT, before)
    while not (place.top / "hydra" / ".hydra").is_dir():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err


def test_hydras_own_folder_that_cannot_be_made_names_its_option(place):
    (place.top / "taken").write_text("")
    outcome = place.run(f"hydra.run.dir={place.top / 'taken' / 'run'}")
    assert outcome.code == 1 and "hydra.run.dir=DIR" in outcome.err, outcome.text
    assert "Traceback" not in outcome.text


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_told_though_why_cannot_be_written(place, own, monkeypatch):
    folder = place.top / "hydra"
    folder.mkdir(parents=True)
    (folder / "error.txt").symlink_to("/dev/full")
    monkeypatch.setattr("sgid.cli.Path.unlink", lambda *_, **__: None)
    outcome = place.run(*own, "noise_rate=2")
    assert outcome.code == 1 and "noise_rate=2.0: must be above 0" in outcome.err
    assert "No space left" not in outcome.text
