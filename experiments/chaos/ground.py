"""Runs in processes that have everything imported, to be killed; what they leave, compared.

Each is forked from a server that has imported the libraries and done nothing else, so that a run of
seconds does not begin with as many seconds of imports. It goes through `sgid.cli.main`, as
`python run.py` does.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from experiments.chaos.moments import Moment, Steps

OPTIONS = (
    "dataset=folder", "models=tiny", "backbone=small_resnet", "dataset.noun=null",
    "expansion=5", "steps=4", "store.shard_size=23",
    "backbone.steps=12", "backbone.batch_size=16", "trainer.validations=4",
)  # fmt: skip
"""A run of seconds on one core, in all stages; ten shards or so."""
SHARD = 23  # an original has images in two of them
STAGES = {
    "starting": "",
    "captioning": "artifacts/scans/*.parquet",
    "drawing": "artifacts/described/*/manifest.json",
    "training": "artifacts/generated/*/manifest.json",
    "testing": "results/*/checkpoints/train.json",
    "reporting": "results/*/result.json",
    "finished": "results/*/report.html",
}
"""What is there once a run has come so far."""
CLASSES, EACH = ("bag", "coat", "dress", "sneaker"), 9
_SERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Ground:
    """A folder for one story: artifacts/, results/, hydra/, and logs of images and of steps."""

    top: Path
    options: tuple[str, ...] = OPTIONS

    @property
    def artifacts(self) -> Path:
        return self.top / "artifacts"

    @property
    def results(self) -> Path:
        return self.top / "results"

    def start(
        self, *given: str, largest: int | None = None, moment: Moment | None = None
    ) -> BaseProcess:
        """A run in a process of its own; what it says goes to `said`.

        No file may grow beyond `largest` bytes: the simplest quota there is. At `moment` the
        process sends itself the signal that belongs to it.
        """
        self.top.mkdir(parents=True, exist_ok=True)
        arguments = [f"hydra.run.dir={self.top / 'hydra'}", *self.options, *given]
        process = _SERVER.Process(target=_run, args=(self, arguments, largest, moment))
        process.start()
        return process

    def finish(self, *given: str, largest: int | None = None, limit: float = 300) -> int | None:
        """Run to the end; the exit code."""
        process = self.start(*given, largest=largest)
        process.join(limit)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"after {limit} seconds: {self.said()[-2000:]}")
        return process.exitcode

    def said(self) -> str:
        path = self.top / "said"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def drawn(self) -> list[tuple[str, str]]:
        """Process and image, of all that was captioned or drawn here, in order."""
        path = self.top / "drawn"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]

    def stage(self) -> str:
        """How far it has come, in a word."""
        return next(
            stage
            for stage, pattern in reversed(STAGES.items())
            if not pattern or any(self.top.glob(pattern))
        )

    def steps(self) -> list[tuple[str, float]]:
        """Stage and time, in seconds, of each step of the processes here."""
        lines = (self.top / "steps").read_text(encoding="utf-8").splitlines()
        return [(line.partition(" ")[0], float(line.partition(" ")[2])) for line in lines]

    def content(self) -> dict[str, Any]:
        """Every byte of the stores, the predictions, the weights, and what was measured."""
        from sgid.reproducibility import content as measured
        from sgid.training.checkpoints import content

        found: dict[str, Any] = {}
        for kind in ("described", "generated"):
            for path in sorted((self.artifacts / kind).glob("*/*")):
                if path.name in ("spec.json", "manifest.json") or path.suffix == ".parquet":
                    found[str(path.relative_to(self.artifacts))] = _hash(path)
        for folder in sorted(self.results.glob("*/")):
            for path in folder.glob("predictions.parquet"):
                found[f"{folder.name}/{path.name}"] = _hash(path)
            for path in folder.glob("checkpoints/best.ckpt"):
                found[f"{folder.name}/weights"] = content(path)
            for path in folder.glob("result.json"):
                result = json.loads(path.read_text(encoding="utf-8"))
                found[f"{folder.name}/result"] = measured(result["metrics"], result["generated"])
        return found

    def half_made(self) -> list[str]:
        """Temporary files that are still there."""
        return sorted(str(path.relative_to(self.top)) for path in self.top.rglob("*.tmp"))


def write_images(folder: Path) -> Path:
    """Some of the bundled images as a folder of images."""
    from sgid.data.sources.bundled import fashion

    listing = fashion().train
    left = {listing.class_names.index(name): EACH for name in CLASSES}
    for row, label in enumerate(listing.labels):
        if left.get(label, 0):
            left[label] -= 1
            path = folder / listing.class_names[label] / f"{left[label]:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(listing.read(row))
    return folder


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(ground: Ground, arguments: list[str], largest: int | None, moment: Moment | None) -> None:
    """Run what `python run.py` would, in the forked process; each image drawn is noted."""
    import resource
    import signal

    top = str(ground.top)
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = os.open(f"{top}/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    own = {"SGID_ARTIFACTS": "artifacts", "SGID_RESULTS": "results", "SGID_DATA": "data"}
    os.environ.update({name: f"{top}/{folder}" for name, folder in own.items()})
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.chdir(top)
    _note_what_is_drawn(os.open(f"{top}/drawn", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    Steps(ground.top, ground.stage, moment).count()
    sys.argv = ["run.py", *arguments]
    from sgid.cli import main

    try:
        code: Any = main()
    except SystemExit as leaving:
        code = leaving.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _note_what_is_drawn(log: int) -> None:
    import sgid.stages.augment as stage
    from sgid.generation.stable_diffusion import StableDiffusionEngine

    draw, describe = StableDiffusionEngine.generate, stage.describe

    def generate(self: Any, requests: Any, hook: Any = None) -> Any:
        for one in draw(self, requests, hook):
            request = one.request
            os.write(log, f"{os.getpid()} {request.described.key}#{request.repeat}\n".encode())
            yield one

    def describing(*given: Any) -> Any:
        for one in describe(*given):
            os.write(log, f"{os.getpid()} {one.key}\n".encode())
            yield one

    StableDiffusionEngine.generate = generate  # type: ignore[method-assign]
    stage.describe = describing


_SERVER.set_forkserver_preload(["experiments.chaos.warm"])
