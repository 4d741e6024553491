"""Disks that are full or read-only, and files that were changed after they were written."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.chaos.ground import SHARD, Ground
from experiments.chaos.stops import Undisturbed
from experiments.chaos.story import Story

SMALLEST = 1024
"""Bytes to which the first file that is written is let grow."""
PLACES = ("paths.artifacts=", "paths.results=", "hydra.run.dir=", "ulimit -f")


def full(whole: Undisturbed, *, times: int, seed: int = 0) -> Story | None:
    """A file system of a random size, too small; it grows, and the same command comes again.

    `None` where this user may not mount one.
    """
    needed = sum(path.stat().st_size for path in whole.ground.top.rglob("*") if path.is_file())
    draw = random.Random(seed)
    story = Story("the disk is full, then it is not", times)
    for number in range(times):
        ground = whole.beside(f"full-{seed}-{number}")
        share = (number + draw.random()) / times
        with mounted(ground.top, size=max(16_384, int(0.9 * share * needed))) as mount:
            if mount is None:
                return None
            _fails_and_goes_on(ground, whole, story, before_it_goes_on=lambda: mount("size=1g"))
    story.outcome = (
        "a message that names the folder and the option, exit code 1, no traceback, no temporary "
        "file; every rerun ended with the same bytes"
    )
    return story


def quota(whole: Undisturbed, *, times: int, seed: int = 0) -> Story:
    """No file may grow beyond a limit, as a quota has it; then it may."""
    story = Story("files may not grow (a quota), then they may", times)
    sizes = [path.stat().st_size for path in whole.ground.top.rglob("*") if path.is_file()]
    draw = random.Random(seed)
    for number in range(times):
        ground = whole.beside(f"quota-{seed}-{number}")
        share = 0.95 * (number + draw.random()) / times
        largest = int(SMALLEST * (max(sizes) / SMALLEST) ** share)  # small files come first
        _fails_and_goes_on(ground, whole, story, largest=largest)
    story.outcome = "as with a full disk"
    return story


def read_only(whole: Undisturbed) -> Story | None:
    """Folders that cannot be written to: before anything is done, and for a run that is done."""
    story = Story("artifacts/ or results/ is read-only", 3)
    for number, folder in enumerate(("artifacts", "results")):
        ground = whole.beside(f"read-only-{number}")
        with mounted(ground.top / folder, size=2**20) as mount:
            if mount is None:
                return None
            mount("ro")
            code = ground.finish()
            said = ground.said()
            story.check(code == 1, f"exit code {code}")
            story.check(f"paths.{folder}" in said, said[-1000:])
            story.check("Traceback" not in said, said[-3000:])
            story.check(not ground.drawn(), "it had begun to work")
    ground = whole.beside("read-only-done")
    shutil.copytree(whole.ground.top, ground.top)
    with mounted(ground.top / "artifacts", size=2**28, over=True) as mount:
        assert mount is not None
        mount("ro")
        story.check(ground.finish() == 0, f"a finished run: {ground.said()[-1000:]}")
    story.outcome = (
        "reported before any work, with the option to change, exit code 1; a finished run is "
        "still reported"
    )
    return story


def damaged(whole: Undisturbed, *, times: int, seed: int = 0) -> Story:
    """A bit is turned in a file of a finished store, or its end is cut off."""
    story = Story("a bit flips in a finished shard, or its end is cut off", times)
    ground = whole.beside(f"damaged-{seed}")
    shutil.copytree(whole.ground.top, ground.top)
    parts = sorted(ground.artifacts.glob("*/*/part-*.parquet"))
    draw = random.Random(seed)
    made = 0
    for number in range(times):
        part = draw.choice(parts)
        data = bytearray(part.read_bytes())
        if number % 3 == 2:
            del data[draw.randrange(len(data)) :]
        else:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        before, drawn = part.stat(), len(ground.drawn())
        part.write_bytes(data)
        options = ["stage=augment"]
        if number % 3 == 1:  # no trace but the bytes: only hashing all of them tells
            os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
            options.append("store.verify=true")
        code = ground.finish(*options)
        said = ground.said()
        story.check(code == 0 and part.name in said, f"exit code {code}: {said[-1000:]}")
        story.check(_stores(ground) == _stores(whole.ground), f"other bytes: {part}")
        made = max(made, len(ground.drawn()) - drawn)
    story.check(made <= SHARD, f"{made} images were made again for one shard")
    story.outcome = (
        f"named, and that shard alone made again ({made} images at most), the same bytes; a bit "
        "that flips without a new date is found by `store.verify=true`, or where it is read"
    )
    return story


def _stores(ground: Ground) -> dict[str, object]:
    return {name: one for name, one in ground.content().items() if name.startswith(("desc", "gen"))}


def _fails_and_goes_on(
    ground: Ground,
    whole: Undisturbed,
    story: Story,
    *,
    largest: int | None = None,
    before_it_goes_on=lambda: None,
) -> None:
    code = ground.finish(largest=largest)
    said = ground.said()
    where = f"while {ground.stage()}"
    story.check(code == 1, f"exit code {code} {where}: {said[-1000:]}")
    story.check(any(place in said for place in PLACES), f"{where}: {said[-1000:]}")
    story.check("Traceback" not in said, f"{where}: {said[-3000:]}")
    story.check(not ground.half_made(), f"{ground.half_made()} left behind {where}")
    before_it_goes_on()
    code = ground.finish()
    story.check(code == 0, f"exit code {code} after {where}: {ground.said()[-3000:]}")
    story.check(ground.content() == whole.ground.content(), f"other bytes after {where}")


@contextmanager
def mounted(folder: Path, *, size: int, over: bool = False) -> Iterator:
    """A file system of `size` bytes at `folder`; what mounts it again with another option.

    With `over`, what is there is copied into it. `None` where this user may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f"{folder.name}-aside")
    if over:
        shutil.copytree(folder, aside)

    def mount(*words: str) -> bool:
        done = subprocess.run(["mount", *words, str(folder)], capture_output=True)
        return done.returncode == 0

    if shutil.which("mount") is None or not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield None
        return
    try:
        if over:
            shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield lambda option: mount("-o", f"remount,{option}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
