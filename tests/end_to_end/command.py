"""`python run.py ...` as a user gives it: in a process of its own, or in this one to save time."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import sgid

ROOT = Path(sgid.__file__).parent.parent
DRAW = "sgid.reporting.figures._picture"
SHORT = ("backbone.steps=4", "expansion=1", "steps=4", "trainer.validations=1")


@cache
def _models() -> Any:
    """The models that commands in this process share, as the runs of one sweep do."""
    from sgid.models.loader import Loaded

    return Loaded()


def _blank(figure: Any, caption: str) -> Any:
    """In place of a picture of a report."""
    from PIL import Image

    from sgid.reporting.figures import Picture

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return Picture(buffer.getvalue(), 8, caption)


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return f"{self.out}\n{self.err}"

    def good(self) -> Outcome:
        assert self.code == 0, self.text
        return self


@dataclass(frozen=True)
class Place:
    """A folder in which commands leave all that they leave: artifacts/, results/, hydra/, home/."""

    top: Path

    @property
    def artifacts(self) -> Path:
        return self.top / "artifacts"

    @property
    def results(self) -> Path:
        return self.top / "results"

    @property
    def hub(self) -> Path:
        """The hub's cache of downloads."""
        return self.top / "home" / "hub" / "hub"

    @property
    def environment(self) -> dict[str, str]:
        home = self.top / "home"
        home.mkdir(parents=True, exist_ok=True)
        dropped = ("HYDRA_FULL_ERROR", "HF_HUB_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return {
            **kept,
            "HOME": str(home),
            "HF_HOME": str(home / "hub"),
            "SGID_ARTIFACTS": str(self.artifacts),
            "SGID_RESULTS": str(self.results),
            "SGID_DATA": str(self.top / "data"),
        }

    def arguments(self, given: tuple[str, ...]) -> list[str]:
        own = [f"hydra.{mode}.dir={self.top / 'hydra'}" for mode in ("run", "sweep")]
        return [str(ROOT / "run.py"), *own, *given]  # the last of two values counts

    def run(self, *given: str, pictures: bool = False, **environment: str) -> Outcome:
        """In this process, with blank pictures in the report if they are not what is tested."""
        from sgid.cli import main

        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.nullcontext() if pictures else mock.patch(DRAW, _blank),
            mock.patch.object(sys, "argv", self.arguments(given)),
            mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch("huggingface_hub.constants.HF_HUB_CACHE", str(self.hub)),
            mock.patch("sgid.models.loader.Loaded", return_value=_models()),
        ):
            try:
                code = main()
            except SystemExit as stop:
                code = stop.code
        return Outcome(code, out.getvalue(), err.getvalue())

    def start(self, *given: str, **environment: str) -> subprocess.Popen[str]:
        """In a process of its own, which goes on."""
        return subprocess.Popen(
            [sys.executable, *self.arguments(given)],
            cwd=self.top,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def spawn(self, *given: str, **environment: str) -> Outcome:
        """In a process of its own."""
        process = self.start(*given, **environment)
        out, err = process.communicate(timeout=600)
        return Outcome(process.returncode, out, err)

    def spawn_bare(self, *given: str) -> Outcome:
        """In a process of its own, told nothing of where to leave things."""
        (self.top / "temporary").mkdir()
        own = {"SGID_ARTIFACTS", "SGID_RESULTS", "SGID_DATA", "HF_HOME"}
        kept = {name: value for name, value in self.environment.items() if name not in own}
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *given],
            cwd=self.top,
            env={**kept, "TMPDIR": str(self.top / "temporary")},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def result(self) -> dict[str, Any]:
        """The only result there is."""
        (file,) = self.results.glob("*/result.json")
        return json.loads(file.read_text())

    def files(self) -> dict[str, int]:
        """Every file of artifacts/ and results/, and when it was last written."""
        return {
            path.relative_to(self.top).as_posix(): path.stat().st_mtime_ns
            for folder in (self.artifacts, self.results)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
