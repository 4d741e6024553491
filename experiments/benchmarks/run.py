"""Time of `python run.py` by its parts, from the start of its process to its end.

    python -m experiments.benchmarks.run [--rounds 3]

Each round runs the command in fresh folders, and a sweep of two runs. They are the real commands
in processes of their own; all that is added is a clock around the functions in `CLOCKED`. Imports
are clocked wherever they happen. Forwards may run in several threads at once: what counts is the
time in which at least one runs, and a moment in which two things run counts for the first of them
in `PARTS`. Imports are that first one: they are nobody's own work.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

CLOCKED = {
    "diffusers.models.unets.unet_2d_condition:UNet2DConditionModel.forward": "UNet",
    "diffusers.models.autoencoders.autoencoder_kl:AutoencoderKL.encode": "VAE",
    "diffusers.models.autoencoders.autoencoder_kl:AutoencoderKL.decode": "VAE",
    "sgid.training.trainer:fit": "training",
    "sgid.training.trainer:run_test": "test",
    "sgid.models.loader:Models._get": "loading models",
    "sgid.stages.preflight:preflight": "images",
    "sgid.stages.data:load": "images",
    "sgid.stages.train:keep_decoded": "images",
    "sgid.stages.preflight:rehearse_classifier": "rehearsal",
    "sgid.stages.augment:describe_shards": "captions",
    "sgid.stages.augment:Augmentation.make": "rest of augment",
    "sgid.stages.evaluate:evaluate_stores": "judge",
    "sgid.reporting.report:report": "report",
}
"""Module:function -> the part of the time that it is."""

OWN: tuple[str, ...] = ("UNet", "VAE", "training")
PARTS: tuple[str, ...] = (
    "imports", *OWN, "loading models", "test", "captions", "judge", "images", "rehearsal",
    "report", "rest of augment", "start and end", "rest",
)  # fmt: skip
JOB = "sgid.cli:_run"
ROOT = Path(__file__).resolve().parents[2]

SWEEP = ("-m", "noise_rate=0.5,0.7")
"""Two runs in one process that share their captions and models, not their images."""

Interval = tuple[str, float, float]
"""A part that ran, with its start and end in seconds."""


def divide(intervals: Iterable[Interval], start: float, end: float) -> dict[str, float]:
    """Seconds of each of `PARTS` between `start` and `end`; they sum to `end - start`.

    A moment belongs to the first of the parts that run then, and to `rest` when none does.
    """
    inside = [(n, max(a, start), min(b, end)) for n, a, b in intervals if a < end and b > start]
    inside.append(("rest", start, end))
    changes = sorted([(a, 1, n) for n, a, _ in inside] + [(b, -1, n) for n, _, b in inside])
    running = dict.fromkeys(PARTS, 0)
    seconds = dict.fromkeys(PARTS, 0.0)
    now = start
    for moment, change, name in changes:
        if moment > now:
            seconds[next(part for part in PARTS if running[part])] += moment - now
            now = moment
        running[name] += change
    return seconds


def clocked(file: Path) -> None:
    """Run the command line of this process with clocks; leave their intervals in `file`."""
    intervals: list[Interval] = []
    pending = {**CLOCKED, JOB: "job"}

    def clock(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.time()
            try:
                return call(*args, **kwargs)
            finally:
                intervals.append((name, started, time.time()))

        return timed

    def importing(call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, which imports; nothing is kept of what takes no time, having been imported."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.time()
            try:
                return call(*args, **kwargs)
            finally:
                if (now := time.time()) - started > 1e-4:
                    intervals.append(("imports", started, now))
                for where in list(pending):
                    module, _, path = where.partition(":")
                    *outer, last = path.split(".")
                    owner: Any = sys.modules.get(module)
                    for name in outer:
                        owner = getattr(owner, name, None)
                    if hasattr(owner, last):
                        setattr(owner, last, clock(getattr(owner, last), pending.pop(where)))

        return timed

    started = time.time()
    builtins.__import__ = importing(builtins.__import__)
    importlib.import_module = importing(importlib.import_module)
    sys.argv[0] = str(ROOT / "run.py")
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:  # `run.py` leaves by `SystemExit`, and after that at once
        file.write_text(json.dumps({"started": started, "intervals": intervals}))


def measured(*overrides: str) -> list[dict[str, float]]:
    """Seconds of each part, and their sum under `wall`, of each run that the command makes.

    What a process does before its first run and after its last belongs to these.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clock.json"
        place = {name: f"{folder}/{name}" for name in ("artifacts", "results")}
        where = {f"SGID_{name.upper()}": path for name, path in place.items()}
        out = [f"hydra.{mode}.dir={folder}/output" for mode in ("run", "sweep")]
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "experiments.benchmarks.run", "--clock", str(file)]
            + [*overrides, *out],
            env={**os.environ, **where},
            capture_output=True,
            text=True,
        )
        ended = time.time()
        if done.returncode:
            raise RuntimeError(f"python run.py {' '.join(overrides)} failed:\n{done.stderr}")
        told = json.loads(file.read_text())
    intervals: list[Interval] = [tuple(one) for one in told["intervals"]]
    last = max(end for _, _, end in intervals)
    around = [("start and end", started, told["started"]), ("start and end", last, ended)]
    jobs = sorted((start, end) for name, start, end in intervals if name == "job")
    parts = [one for one in intervals if one[0] != "job"] + around
    # A run reaches from the end of the one before it to its own end.
    borders = [started, *(end for _, end in jobs[:-1]), ended]
    runs = [divide(parts, *pair) for pair in zip(borders, borders[1:], strict=False)]
    return [{**run, "wall": sum(run.values())} for run in runs]


def main() -> None:
    """Measure, and leave table and picture."""
    from experiments.benchmarks.common import Target, arguments, finish, table

    given = arguments(__doc__)
    rounds: dict[str, list[dict[str, float]]] = {"python run.py": [], "second run of a sweep": []}
    for turn in range(given.rounds):
        rounds["python run.py"] += measured()
        rounds["second run of a sweep"].append(measured(*SWEEP)[1])
        walls = ", ".join(f"{name} {runs[-1]['wall']:.1f} s" for name, runs in rounds.items())
        print(f"round {turn + 1}/{given.rounds}  {walls}", flush=True)
    medians = {name: _median(runs) for name, runs in rounds.items()}
    only = rounds["python run.py"]
    over = statistics.median(run["wall"] / sum(run[part] for part in OWN) for run in only)
    wall = statistics.median(run["wall"] for run in only)
    rows = [
        (part, *(f"{times[part]:.2f}" for times in medians.values())) for part in (*PARTS, "wall")
    ]
    finish(
        "run",
        given.out,
        title="Where the time of `python run.py` goes",
        body=table(("seconds (median)", *medians), rows),
        targets=[
            Target("wall time over UNet + VAE + training", over, 1.3, higher=False),
            Target("wall time", wall, 180, higher=False, unit="s"),
        ],
        figure=_stacked(medians),
        data={"rounds": rounds},
    )


def _median(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(run[part] for run in runs) for part in runs[0]}


def _stacked(medians: dict[str, dict[str, float]]) -> Any:
    """A bar for each arm, cut into its parts."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 2.6), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(medians)
    for number, part in enumerate(PARTS):
        widths = [times[part] for times in medians.values()]
        colour = colormaps["tab20"](number)
        axes.barh(list(medians), widths, left=left, color=colour, label=part, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=5, fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.3))
    return figure


if __name__ == "__main__":
    if sys.argv[1:2] == ["--clock"]:
        target = Path(sys.argv[2])
        del sys.argv[1:3]
        clocked(target)
    else:
        main()
