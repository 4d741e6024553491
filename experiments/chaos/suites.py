"""Faults that tests of the suite bring about: each row is some test files, run as they are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from experiments.chaos.story import Story

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Suite:
    """Tests about one fault, and what they show where they all pass."""

    fault: str
    files: tuple[str, ...]
    shows: str


SUITES = ()


def run(suite: Suite) -> Story:
    """The tests of a suite; each that fails or is skipped is told."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *suite.files],
            cwd=ROOT, capture_output=True, check=False,
        )  # fmt: skip
        cases = list(ElementTree.parse(report).iter("testcase"))
    story = Story(suite.fault, len(cases), suite.shows)
    story.check(bool(cases), "no tests were found")
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        story.check(case.find("failure") is None and case.find("error") is None, f"{name} failed")
        story.check(case.find("skipped") is None, f"{name} was skipped")
    return story
