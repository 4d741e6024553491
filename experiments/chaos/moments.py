"""Moments of a run, found again whatever the machine's speed: the process itself acts at them.

A run's steps are counted within each stage: an image captioned or drawn, a batch trained or tested
on, a file about to be opened for writing or to be renamed. A moment is a random time between two
steps of one stage, so that its signal falls into that stage by construction.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Moment:
    """`seconds` after a step of a stage, or right before the next step if that comes sooner."""

    stage: str
    step: int  # from 1
    seconds: float
    signal: signal.Signals


def moments(
    course: Sequence[tuple[str, float]],
    stages: Sequence[str],
    number: signal.Signals,
    seed: int,
) -> list[Moment]:
    """A random moment in each of `stages`; those in the same stage are in equal parts of its steps.

    `course` has the stage and the time of each step of an undisturbed run.
    """
    draw, times, known = random.Random(seed), Counter(stages), Counter()
    times_of = {stage: [at for one, at in course if one == stage] for stage in times}
    found = []
    for stage in stages:
        steps = times_of[stage]
        share = (known[stage] + draw.random()) / times[stage]
        known[stage] += 1
        step = 1 + int(share * (len(steps) - 1))  # never the last: it ends the stage
        until_next = steps[step] - steps[step - 1]
        found.append(Moment(stage, step, draw.random() * until_next, number))
    return found


@dataclass
class Steps:
    """The steps of this process, noted in the file `steps`; at `moment` it sends its signal."""

    top: Path
    stage: Callable[[], str]
    moment: Moment | None
    counts: dict[str, count] = field(default_factory=lambda: defaultdict(lambda: count(1)))

    def count(self) -> None:
        """Count from now on, until this process ends."""
        from tqdm import tqdm

        update, own = tqdm.update, os.getpid()  # every stage has a bar
        log = os.open(self.top / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def step() -> None:
            if os.getpid() == own:  # not a child of it
                self._step(log)

        def updating(bar: Any, n: float | None = 1) -> bool | None:
            step()
            return update(bar, n)

        def hook(event: str, given: tuple[Any, ...]) -> None:
            writes = event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event == "os.rename") and str(given[0]).startswith(str(self.top)):
                step()

        tqdm.update = updating  # type: ignore[method-assign]
        sys.addaudithook(hook)

    def _step(self, log: int) -> None:
        stage = self.stage()
        os.write(log, f"{stage} {time.monotonic()}\n".encode())
        number, moment = next(self.counts[stage]), self.moment
        if moment is None or stage != moment.stage or number < moment.step:
            return
        if number == moment.step:
            timer = threading.Timer(moment.seconds, self._act)
            timer.daemon = True
            timer.start()
        else:
            self._act()

    def _act(self) -> None:
        moment, self.moment = self.moment, None
        if moment is None:
            return
        if moment.signal is signal.SIGKILL:  # and what it started
            os.killpg(0, moment.signal)
        os.kill(os.getpid(), moment.signal)
