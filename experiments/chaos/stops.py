"""Processes that are killed, or asked to stop, at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

from experiments.chaos.ground import SHARD, Ground
from experiments.chaos.story import Story

POLL = 0.02  # seconds between looks at a run
ASKED = {signal.SIGINT: "SIGINT (Ctrl-C)", signal.SIGTERM: "SIGTERM"}


@dataclass(frozen=True)
class Moment:
    """A point of a run, found again in one that is slower, faster, or goes on from somewhere."""

    progress: tuple[int, int]
    seconds: float  # since it came so far

    def wait(self, ground: Ground, process: BaseProcess) -> None:
        """Until it is there, or has gone beyond or ended meanwhile."""
        while process.exitcode is None and ground.progress() < self.progress:
            process.join(POLL)
        came = time.monotonic()
        while process.exitcode is None and time.monotonic() - came < self.seconds:
            if ground.progress() > self.progress:
                return
            process.join(POLL)


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nothing happens to leaves, and how far it had come when."""

    ground: Ground
    seconds: float
    course: list[tuple[float, tuple[int, int]]]  # each further progress, and when

    def beside(self, name: str) -> Ground:
        return replace(self.ground, top=self.ground.top.parent / name)

    def moments(self, times: int, seed: int) -> list[Moment]:
        """Random ones, one from each of as many equal parts of the time that it took."""
        draw = random.Random(seed)
        found = []
        for part in range(times):
            at = self.seconds * (part + draw.random()) / times
            since, progress = max(came for came in self.course if came[0] <= at)
            found.append(Moment(progress, at - since))
        return found


def undisturbed(ground: Ground) -> Undisturbed:
    """Run it to the end, and note its course."""
    place = replace(ground, top=ground.top / "undisturbed")
    process, started = place.start(), time.monotonic()
    course = [(0.0, place.progress())]
    while process.exitcode is None and time.monotonic() - started < 300:
        process.join(POLL)
        if (progress := place.progress()) > course[-1][1]:
            course.append((time.monotonic() - started, progress))
    if process.exitcode != 0:
        _kill(process)
        raise RuntimeError(f"exit code {process.exitcode}: {place.said()[-2000:]}")
    return Undisturbed(place, time.monotonic() - started, course)


def killed(whole: Undisturbed, *, times: int, in_a_row: int = 1, seed: int = 0) -> Story:
    """`kill -9` at random moments, the same command again, and so on; then to the end.

    `in_a_row` kills meet one run, each some way further on; moments are drawn from equal parts of
    the time that a run takes, so that no stage is spared.
    """
    story = Story("`kill -9`, then the same command again", times)
    stages, again = Counter(), []
    moments = whole.moments(times, seed)
    for number in range(0, times, in_a_row):
        ground = whole.beside(f"killed-{seed}-{number}")
        # Of all parts of a run, one after the other; what was done before does not come again.
        for moment in moments[number // in_a_row :: times // in_a_row]:
            process = ground.start()
            moment.wait(ground, process)
            _kill(process)
            process.join()
            stages[ground.stage()] += 1
            untrue = _untrue(ground, whole)
            story.check(not untrue, f"{untrue} after {moment}")
        again.append(_go_on(ground, whole, story))
    if times >= 20:
        spared = {"captioning", "drawing", "training"} - set(stages)
        story.check(not spared, f"no moment fell into {spared}: {stages}")
    where = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    story.outcome = (
        f"nothing half-made was trusted; every rerun ended with the same bytes; images made twice: "
        f"{max(again)} at most, a shard being {SHARD} (killed while: {where})"
    )
    return story


def asked(whole: Undisturbed, number: signal.Signals, *, times: int) -> Story:
    """The same with a signal that asks."""
    story = Story(f"{ASKED[number]}, then the same command again", times)
    stages, again = Counter(), []
    for index, moment in enumerate(whole.moments(times, seed=number)):
        ground = whole.beside(f"asked-{int(number)}-{index}")
        process = ground.start()
        moment.wait(ground, process)
        stage = ground.stage()
        alive = process.exitcode is None
        if alive and process.pid:
            os.kill(process.pid, number)
        process.join(60)
        story.check(process.exitcode is not None, f"it did not stop while {stage}")
        _kill(process)
        said = ground.said()
        if alive and (process.exitcode or stage not in ("reporting", "finished")):
            stages[stage] += 1
            story.check(process.exitcode == 128 + number, f"exit code {process.exitcode}, {stage}")
            story.check("Stopped by" in said and "same command" in said, f"{stage}: {said[-300:]}")
        story.check("Traceback" not in said, f"a traceback while {stage}: {said[-1500:]}")
        story.check(not ground.half_made(), f"{ground.half_made()} left behind while {stage}")
        again.append(_go_on(ground, whole, story))
    where = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    story.outcome = (
        f"a message, exit code {128 + number}, no traceback, no temporary file; every rerun ended "
        f"with the same bytes; images made twice: {max(again)} at most (stopped while: {where})"
    )
    return story


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
