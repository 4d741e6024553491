"""Processes that are killed, or asked to stop, at random moments."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

from experiments.chaos.ground import SHARD, STAGES, Ground
from experiments.chaos.moments import Moment, moments
from experiments.chaos.story import Story

ASKED = {signal.SIGINT: "SIGINT (Ctrl-C)", signal.SIGTERM: "SIGTERM"}
IN = [stage for stage in STAGES if stage != "finished"]
"""The stages in which a run is stopped."""


@dataclass(frozen=True)
class Undisturbed:
    """Output and duration of an undisturbed run."""

    ground: Ground
    seconds: float

    def beside(self, name: str) -> Ground:
        return replace(self.ground, top=self.ground.top.parent / name)


def undisturbed(ground: Ground) -> Undisturbed:
    """Run it to the end."""
    place, started = replace(ground, top=ground.top / "undisturbed"), time.monotonic()
    if code := place.finish():
        raise RuntimeError(f"exit code {code}: {place.said()[-2000:]}")
    return Undisturbed(place, time.monotonic() - started)


def killed(whole: Undisturbed, stages: Sequence[str], *, in_a_row: int = 1, seed: int = 0) -> Story:
    """`kill -9` at a random moment in each of `stages`, the same command again; then to the end.

    `in_a_row` kills meet one run, so that as many stages follow one another as in a run.
    """
    story = Story("`kill -9`, then the same command again", len(stages))
    again = []
    for ground, planned in _planned(whole, stages, signal.SIGKILL, in_a_row, seed):
        for moment in planned:
            code = _signalled(ground, moment, story)
            story.check(code == -moment.signal, f"exit code {code} at {moment}")
            stage = ground.stage()
            story.check(stage == moment.stage, f"killed while {stage}, not at {moment}")
            untrue = _untrue(ground, whole)
            story.check(not untrue, f"{untrue} after {moment}")
        again.append(_go_on(ground, whole, story))
    story.outcome = (
        f"nothing half-made was trusted; every rerun ended with the same bytes; images made twice: "
        f"{max(again)} at most, a shard being {SHARD} (killed while: {_counted(stages)})"
    )
    return story


def asked(
    whole: Undisturbed,
    number: signal.Signals,
    stages: Sequence[str],
    *,
    in_a_row: int = 1,
    seed: int = 0,
) -> Story:
    """The same with a signal that asks."""
    story = Story(f"{ASKED[number]}, then the same command again", len(stages))
    again = []
    for ground, planned in _planned(whole, stages, number, in_a_row, seed):
        for moment in planned:
            before = len(ground.said())
            code = _signalled(ground, moment, story)
            said = ground.said()[before:]
            story.check(code == 128 + number, f"exit code {code} at {moment}")
            story.check("Stopped by" in said and "same command" in said, f"{moment}: {said[-300:]}")
            story.check("Traceback" not in said, f"a traceback at {moment}: {said[-1500:]}")
            story.check(not ground.half_made(), f"{ground.half_made()} left behind at {moment}")
        again.append(_go_on(ground, whole, story))
    story.outcome = (
        f"a message, exit code {128 + number}, no traceback, no temporary file; every rerun ended "
        f"with the same bytes; images made twice: {max(again)} at most "
        f"(stopped while: {_counted(stages)})"
    )
    return story


def _planned(
    whole: Undisturbed, stages: Sequence[str], number: signal.Signals, in_a_row: int, seed: int
) -> Iterator[tuple[Ground, list[Moment]]]:
    """Each run that is met, and the moments at which it is."""
    found = moments(whole.ground.steps(), stages, number, seed)
    for first in range(0, len(found), in_a_row):
        yield whole.beside(f"{number.name}-{seed}-{first}"), found[first : first + in_a_row]


def together(whole: Undisturbed, *, times: int) -> Story:
    """Several processes started on the same run at once, one of them killed every other time."""
    story = Story("three processes on one run at once, every other time one is killed", times)
    for number in range(times):
        ground = whole.beside(f"together-{number}")
        processes = [ground.start() for _ in range(3)]
        if number % 2:
            processes[0].join(whole.seconds / 2)
            _kill(processes[0])
        for process in processes:
            process.join(300)
        codes = [process.exitcode for process in processes[number % 2 :]]
        story.check(set(codes) == {0}, f"exit codes {codes}: {ground.said()[-2000:]}")
        story.check(ground.content() == whole.ground.content(), "other bytes")
        twice = len(ground.drawn()) - len(set(image for _, image in ground.drawn()))
        limit = 2 * SHARD if number % 2 else 0
        story.check(twice <= limit, f"{twice} images made twice")
    story.outcome = "they shared the shards; no shard was made by two; the same bytes"
    return story


def _signalled(ground: Ground, moment: Moment, story: Story) -> int | None:
    """The exit code of a run that sends itself a signal."""
    process = ground.start(moment=moment)
    process.join(300)
    story.check(process.exitcode is not None, f"it did not stop at {moment}")
    _kill(process)
    process.join()
    return process.exitcode


def _counted(stages: Sequence[str]) -> str:
    return ", ".join(f"{count} {stage}" for stage, count in Counter(stages).items())


def _go_on(ground: Ground, whole: Undisturbed, story: Story) -> int:
    """Run it to the end, undisturbed; how many images one stop has had made again, at most."""
    code = ground.finish()
    story.check(code == 0, f"exit code {code}: {ground.said()[-2000:]}")
    story.check(ground.content() == whole.ground.content(), f"other bytes in {ground.top}")
    story.check(not ground.half_made(), f"{ground.half_made()} were left behind")
    drawn = ground.drawn()
    story.check(len(set(drawn)) == len(drawn), "a process made the same images twice")
    last = {image: process for process, image in drawn}
    again = max(Counter(one for one, image in drawn if last[image] != one).values(), default=0)
    # The shard that was being made, and the one before it while its file was written.
    story.check(again < 2 * SHARD, f"{again} images of one process were made again")
    return again


def _untrue(ground: Ground, whole: Undisturbed) -> list[str]:
    """What is there under its final name and is not what it should be."""
    now, should = ground.content(), whole.ground.content()
    lasting = {name: value for name, value in now.items() if not name.endswith("/weights")}
    return [name for name, value in lasting.items() if should.get(name) != value]


def _kill(process: BaseProcess) -> None:
    """A process, and those that it started."""
    if process.exitcode is None and process.pid:
        with suppress(ProcessLookupError):  # it has no group of its own yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
