"""`make chaos`: bring about each fault, and write what came of it into `docs/reliability.md`."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from experiments.chaos import disks, stops, suites
from experiments.chaos.ground import OPTIONS, Ground, write_images
from experiments.chaos.page import write_table
from experiments.chaos.story import Story

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

AT_ONCE = 2
"""Stories that are told at the same time; each run in them has one thread."""


def stories(top: Path) -> Iterator[Callable[[], Story | None]]:
    """What is done, in order; the first of them is waited for."""
    images = write_images(top / "images")
    whole = stops.undisturbed(Ground(top, (*OPTIONS, f"dataset.root={images}")))
    yield lambda: disks.read_only(whole)
    yield lambda: stops.together(whole, times=4)
    yield lambda: disks.full(whole, times=4)
    yield lambda: disks.quota(whole, times=4)
    yield lambda: disks.damaged(whole, times=9)
    yield lambda: stops.asked(whole, signal.SIGINT, stops.IN)
    yield lambda: stops.asked(whole, signal.SIGTERM, stops.IN)
    yield lambda: stops.killed(whole, 4 * stops.IN)
    for suite in suites.SUITES:
        yield lambda suite=suite: suites.run(suite)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="whose table is written anew")
    page = parser.parse_args().page
    console, started = Console(soft_wrap=True), time.monotonic()
    told: list[Story] = []
    with (
        tempfile.TemporaryDirectory(prefix="sgid-chaos-") as top,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        for one in pool.map(lambda story: story(), stories(Path(top))):
            if one is None:
                console.print("[yellow]skipped: this user may not mount file systems[/yellow]")
                continue
            told.append(one)
            mark = "[red]FAILED[/red]" if one.failures else "[green]held[/green]"
            console.print(f"{mark} {one.fault}: {one.tried} times")
            for failure in one.failures:
                console.print(f"  {failure}", markup=False, highlight=False)
            # After each, so that what was tried is not lost with this process either.
            minutes = (time.monotonic() - started) / 60
            machine = (
                f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
            )
            write_table(page, told, f"{machine}; {minutes:.0f} minutes")
    console.print(f"{page}: {len(told)} rows")
    return any(one.failures for one in told)


if __name__ == "__main__":
    raise SystemExit(main())
