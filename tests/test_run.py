"""`run.py` ends at once, yet does all that is to be done at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sgid

RUN = Path(sgid.__file__).parent.parent / "run.py"
SCRIPT = f"""
import atexit, logging, os, runpy, sys, threading, time
import sgid.cli
def later():
    time.sleep(0.2)
    print("thread")
def main():
    atexit.register(print, "handler")
    threading.Thread(target=later).start()
    {{what}}
sgid.cli.main = main
runpy.run_path({str(RUN)!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("return 0", 0, ""),
        ("return 130", 130, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit('so it goes')", 1, "so it goes"),
        ("raise RuntimeError('so it goes')", 1, "RuntimeError: so it goes"),
    ],
)
def test_the_code_and_the_last_words_are_what_python_makes_of_them(what, code, said):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(what=what)], capture_output=True, text=True
    )
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout.split() == ["thread", "handler"]


def test_nothing_is_freed_one_by_one():
    """An object that would speak as Python frees it does not get to."""
    speak = "lambda self, write=os.write: write(1, b'freed')"
    what = f"sys.kept = type('Kept', (), {{'__del__': {speak}}})(); return 0"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(what=what)], capture_output=True, text=True
    )
    assert "freed" not in done.stdout
