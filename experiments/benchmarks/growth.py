"""Does memory or time per image grow with the number of images? Is a large store soon resumed?

    python -m experiments.benchmarks.growth --requests 10000 100000 1000000

The stages are those of a run, on a folder of small PNGs, with a Stable Diffusion whose UNet has one
layer: so all but the denoising is as large as it would be. There are two series. In the one, ever
more images are made of the same originals by SGID, with the bundled BLIP and CLIP. In the other,
the originals grow as well: five images of each, drawn from the class name.

Each size is a process of its own. It is killed when all but the last shards are written; another
one is started and takes up the work; a third reads what was made, as a set to train on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.common import Target, finish, table
from experiments.benchmarks.growing import SHARD, write_originals, write_pipeline

SIDE = 8
LEFT = 3
"""Shards that are not written yet when a process is killed."""
SERIES = {
    "same originals, sgid": ("sgid", lambda requests: 2_000),
    "five of each original, img2img_label": ("img2img_label", lambda requests: requests // 5),
}
ROOT = Path(__file__).parents[2]


@dataclass
class Seen:
    """A finished process: its largest memory in MB, and the times that it printed."""

    resident: float = 0.0
    anonymous: float = 0.0
    told: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--series", nargs="+", default=list(SERIES), choices=list(SERIES))
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--work", type=Path, help="folder for what is made on the way; kept")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        pipeline = write_pipeline(work / "pipeline", side=SIDE)
        rows = [
            measure(name, requests, pipeline, work)
            for name in given.series
            for requests in sorted(given.requests)
        ]
    columns = list(rows[0])
    body = table(columns, [[_said(row[column]) for column in columns] for row in rows])
    finish(
        "growth", given.out, title="Memory and time against the number of images", body=body,
        targets=targets(rows), figure=figure(rows), data={"rows": rows},
    )  # fmt: skip


def measure(name: str, requests: int, pipeline: Path, work: Path) -> dict[str, Any]:
    """One size of one series: made and killed, resumed, read."""
    method, count = SERIES[name]
    originals = count(requests)
    root = write_originals(work / f"originals-{originals}", originals, side=SIDE)
    place = work / f"{method}-{requests}"
    options = [
        "stage=augment", "dataset=folder", f"dataset.root={root}", f"aug={method}",
        "dataset.validation=0.01", "dataset.test=0.01", "models=tiny", "backbone=small_resnet",
        f"models.generator.weights.path={pipeline}", f"models.generator.resolution={SIDE}",
        f"expansion={requests // originals}", "steps=4", "noise_rate=0.5",
        f"store.shard_size={SHARD}", f"paths.artifacts={place}", f"paths.results={place}",
    ]  # fmt: skip

    made = follow("make", options, place, stop=True)
    shards = parts(place)
    times = [shard.stat().st_mtime for shard in (shards[0], shards[-1])]
    resumed = follow("make", options, place)
    read = follow("read", options, place)
    row = {
        "series": name,
        "requests": requests,
        "originals": originals,
        "peak MB": made.resident,
        "of it anonymous": made.anonymous,
        "ms per image": 1000 * (times[1] - times[0]) / ((len(shards) - 1) * SHARD),
        "CPU ms per image": 1000 * made.told["processor"] / (len(shards) * SHARD),
        "resume: process s": resumed.told["first"] - resumed.told["process"],
        "resume: stage s": resumed.told["first"] - resumed.told["stage"],
        "finish s": resumed.told["end"] - resumed.told["last"],
        "read: peak MB": read.resident,
        "read: anonymous": read.anonymous,
        "read: first s": read.told["set"],
        "read: µs per image": read.told["image"],
    }
    print(json.dumps(row), flush=True)
    return row


def follow(what: str, options: Sequence[str], place: Path, *, stop: bool = False) -> Seen:
    """Run a process of `growing` and watch its memory; kill it before its end with `stop`."""
    command = [sys.executable, "-m", "experiments.benchmarks.growing", what, *options]
    environment = {**os.environ, "SGID_STARTED": str(time.time()), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    seen, enough = Seen(), None
    for status in _statuses(process):
        seen.resident = max(seen.resident, _megabytes(status, "VmHWM"))
        seen.anonymous = max(seen.anonymous, _megabytes(status, "RssAnon"))
        if stop:
            enough = enough or _last_but(place, LEFT)
            if enough and enough.is_file():
                seen.told["processor"] = _processor_seconds(process.pid)
                process.send_signal(signal.SIGKILL)
                process.wait()
                return seen
    out, _ = process.communicate()
    if process.returncode or stop:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}, too soon or ill")
    seen.told = json.loads(out.splitlines()[-1])
    return seen


def parts(place: Path) -> list[Path]:
    return sorted(place.glob("generated/*/part-*.parquet"))


def _last_but(place: Path, left: int) -> Path | None:
    """The shard after which `left` are to come, as soon as the store is there."""
    known, specs = place / "rows.txt", list(place.glob("generated/*/spec.json"))
    if not specs:
        return None
    shards = -(-int(known.read_text()) // SHARD)
    return specs[0].with_name(f"part-{shards - 1 - left:05d}.parquet")


def _statuses(process: subprocess.Popen[bytes]) -> Iterator[str]:
    while process.poll() is None:
        try:
            yield Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.1)


def _megabytes(status: str, name: str) -> float:
    lines = (line.split() for line in status.splitlines())
    return next((int(line[1]) / 1024 for line in lines if line[0] == f"{name}:"), 0.0)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Goals of each series: the largest size against the smallest."""
    found = []
    for name in dict.fromkeys(row["series"] for row in rows):
        first, *_, last = (
            own if len(own := [r for r in rows if r["series"] == name]) > 1 else own * 2
        )
        sizes = f"{last['requests']:,} requests against {first['requests']:,} ({name})"
        found += [
            Target(f"peak memory, {sizes}", last["peak MB"] / first["peak MB"], 1.1, False),
            Target(
                f"time per image, {sizes}", last["ms per image"] / first["ms per image"], 1.1, False
            ),
            Target(
                f"resume of {last['requests']:,} requests ({name}), from the start of the stage",
                last["resume: stage s"], 5, False, "s",
            ),
        ]  # fmt: skip
    return found


def figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Memory and time per image against requests."""
    from matplotlib.figure import Figure

    from sgid.reporting.figures import BLACK, BLUE

    drawn = Figure(figsize=(8, 3.4), layout="constrained")
    both = drawn.subplots(1, 2)
    for axes, column in zip(both, ("peak MB", "ms per image"), strict=True):
        for name, colour in zip(SERIES, (BLUE, BLACK), strict=True):
            own = [row for row in rows if row["series"] == name]
            if own:
                x = [row["requests"] for row in own]
                axes.plot(x, [row[column] for row in own], "o-", color=colour, label=name)
        axes.set(xscale="log", xlabel="requests", ylabel=column)
        axes.set_ylim(0, 1.15 * max(row[column] for row in rows))
        axes.spines[["top", "right"]].set_visible(False)
    both[-1].legend(frameon=False, fontsize=8)
    return drawn


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
