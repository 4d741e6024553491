"""Faults that tests of the suite bring about: each row is some test files, run as they are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from experiments.chaos.story import Story

LIMIT = 600
"""Seconds for the tests of a suite."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Suite:
    """Tests about one fault, and what they show where they all pass."""

    fault: str
    files: tuple[str, ...]
    shows: str


SUITES = (
    Suite(
        "`python run.py` itself, stopped and killed in each stage; files as a power cut leaves",
        ("tests/end_to_end/test_resume.py", "tests/end_to_end/test_signals.py"),
        "a clean stop; nothing half-made was trusted; the same rows and metrics",
    ),
    Suite(
        "latents that are not finite, or all-black images",
        ("tests/generation/test_engine.py",),
        "drawn again in float32, as that model draws them; their neighbours stay as they are",
    ),
    Suite(
        "memory runs out",
        ("tests/runtime/test_batching.py", "tests/generation/test_memory.py"),
        "batches are halved for good; what does not fit alone is reported with the option to change",
    ),
    Suite(
        "a loss that is not finite, a dead loading process, no memory in training",
        ("tests/training/test_trainer.py",),
        "told with the option to change; the same command goes on from the last validation",
    ),
    Suite(
        "checkpoints cut off, flipped, or with code in them",
        ("tests/training/test_checkpoints.py",),
        "set aside with a warning; no code is run",
    ),
    Suite(
        "one of several training processes is killed",
        ("tests/training/test_distributed.py",),
        "no process is left behind; the same command ends with the same bytes",
    ),
    Suite(
        "a worker or a node of a Ray cluster is killed; shards damaged in its storage",
        ("tests/cluster/test_driver.py", "tests/cluster/test_storage.py"),
        "its shards are made elsewhere; nothing lost, nothing double; the same bytes",
    ),
    Suite(
        "runs of a sweep fail, are killed, or are preempted by SLURM's stand-in",
        ("tests/end_to_end/test_sweep.py", "tests/end_to_end/test_launchers.py"),
        "the others run; reason and command are reported, exit code 1; the same command goes on",
    ),
    Suite(
        "broken, huge, strange and hostile images and names",
        ("tests/data/test_bad_images.py",),
        "used rightly, or named and left out; no traceback, no hang, nothing written elsewhere",
    ),
    Suite(
        "pickles, code that comes with weights or configs, archives and names that reach out",
        ("tests/safety",),
        "refused, with the option to change where there is one",
    ),
)


def run(suite: Suite) -> Story:
    """The tests of a suite; each that fails or is skipped is told."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["pytest", "-q", "-m", "slow or not slow", f"--junitxml={report}", *suite.files]
        try:
            subprocess.run(
                [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, timeout=LIMIT
            )
            cases = list(ElementTree.parse(report).iter("testcase"))
        except (OSError, subprocess.TimeoutExpired, ElementTree.ParseError) as error:
            return Story(suite.fault, 0, suite.shows, [f"the tests did not end: {error}"])
    story = Story(suite.fault, len(cases), suite.shows)
    story.check(bool(cases), "no tests were found")
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        story.check(case.find("failure") is None and case.find("error") is None, f"{name} failed")
        story.check(case.find("skipped") is None, f"{name} was skipped")
    return story
