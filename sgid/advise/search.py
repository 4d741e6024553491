"""Successive halving over candidates, with seeds as its rungs, within a budget of seconds.

All candidates are trained once, with a share of the steps; the better half goes on to two seeds,
the better half of these to four, and so on (Jamieson and Talwalkar, AISTATS 2016). The best
candidate that generates nothing and the best that does always go on: the answer is the difference
between these two, paired by seed.

Optuna's `SuccessiveHalvingPruner` is not used. It prunes trials that run one after the other by
what was reported before them, so that the first ones are never pruned and the order decides; it
neither knows what a rung costs nor keeps two kinds of candidates in the race, and it has no batches
for Hydra's launchers to run at a time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from sgid.advise.candidates import Candidate
from sgid.evaluation.statistics import Estimate, paired_difference

LEAST_SEEDS = 2
"""Seeds of the last two, below which nothing can be said about chance."""

WORTH = 1.0
"""Points of top-1 below which a lead that may be chance is not worth the images."""


@dataclass(frozen=True)
class Trial:
    """One training: a candidate, a seed, and a share of the training steps."""

    candidate: Candidate
    seed: int
    steps: float = 1.0


class Round(NamedTuple):
    """One round of a search: its seed, share of steps, and the seconds that the search has."""

    seed: int
    steps: float
    limit: float


@dataclass(frozen=True)
class Outcome:
    """The end of a trial: validation top-1 in percent, or why there is none, and its seconds."""

    top1: float | None
    seconds: float
    reason: str | None = None


class Trials(Protocol):
    """Trials that have been run, and the means to run more."""

    @property
    def outcomes(self) -> Mapping[Trial, Outcome]:
        """All that were run, in this process or before."""
        ...

    def cost(self, trials: Sequence[Trial]) -> float:
        """Seconds that trials, in this order, will take; of those that were run, none."""
        ...

    def run(self, trials: Sequence[Trial], limit: float) -> None:
        """Run trials in this order; none that would end beyond `limit` seconds in all."""
        ...

    def planned(self, place: Round) -> Sequence[Candidate] | None:
        """The candidates of a round as `plan` was told, in this process or before, if it was."""
        ...

    def plan(self, place: Round, running: Sequence[Candidate]) -> None:
        """Remember the candidates of a round, the last that are told, so that a search which was
        killed, at whatever it was, takes the same again.
        """
        ...


@dataclass(frozen=True)
class Point:
    """Best pair of candidates that a search had found after some seconds."""

    seconds: float
    baseline: Candidate
    contender: Candidate
    lead: Estimate


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Args:
        baseline: the best candidate without generated images, on validation.
        contender: the best with generated images.
        seeds: the seeds that both were trained with.
        lead: of the contender over the baseline, in points of validation top-1, paired by seed.
        points: the same after each round.
        out: why each of the others is out, in the order in which they left.
    """

    baseline: Candidate
    contender: Candidate
    seeds: tuple[int, ...]
    lead: Estimate
    points: tuple[Point, ...]
    out: Mapping[Candidate, str] = field(default_factory=dict)

    @property
    def sure(self) -> bool:
        """Whether the paired test supports the contender's lead."""
        return self.lead.supported and self.lead.value > 0

    @property
    def advised(self) -> Candidate:
        """The contender, unless its lead is of one seed, or too small for what may be chance."""
        seen = self.lead.n >= LEAST_SEEDS and self.lead.value >= WORTH
        return self.contender if self.sure or seen else self.baseline


def rounds(seeds: int, first_steps: float) -> Iterator[tuple[int, float, bool]]:
    """Seed, share of steps, and whether the field is halved after it, of each round."""
    if first_steps < 1:
        yield 0, first_steps, True
    for seed in range(seeds):
        done = seed + 1
        first = done == 1 and first_steps == 1
        yield seed, 1.0, first or (done >= 2 and math.log2(done).is_integer())


def search(
    candidates: Sequence[Candidate],
    trials: Trials,
    *,
    limit: float,
    seeds: int,
    first_steps: float = 1.0,
) -> Found:
    """Find the best candidate of each kind, of `candidates` in the order of hope.

    Raises:
        ValueError: if the trials of one kind all failed, or there is no time for one of each
            within `limit` seconds of trials.
    """
    alive = _mixed(candidates)
    out: dict[Candidate, str] = {}
    points: list[Point] = []
    common: list[int] = []
    accounted: set[Trial] = set()
    for seed, steps, halved in rounds(seeds, first_steps):
        running = trials.planned(place := Round(seed, steps, limit))
        if running is None:
            running = _affordable(alive, place, trials, accounted)
            trials.plan(place, running)
        if not running:
            break
        wanted = [Trial(one, seed, steps) for one in running]
        trials.run(wanted, limit)
        have = [one for one in running if _top1(trials, one, seed, steps) is not None]
        failed = {
            trial.candidate: f"failed: {outcome.reason}"
            for trial in wanted
            if (outcome := trials.outcomes.get(trial)) is not None and outcome.top1 is None
        }
        out |= failed
        alive = [one for one in alive if one not in failed]
        if len({one.generates for one in alive}) < 2:
            raise ValueError(_all_failed(out))
        if len({one.generates for one in have}) < 2:
            trials.plan(place, [])
            break  # the time is up; this seed counts for nobody
        if len(trained := [one for one in running if one in have or one in failed]) < len(running):
            trials.plan(place, trained)
        out |= {one: "no time" for one in alive if one not in have}
        alive = have
        accounted |= set(wanted)
        if steps == 1:
            common.append(seed)
        at = [(s, 1.0) for s in common] or [(seed, steps)]
        alive.sort(key=lambda one: -_mean(trials, one, at))  # noqa: B023
        if halved and seed + 1 < seeds:
            kept = _better_half(alive)
            text = f"{len(alive)} left, {_rounds_text(at)}"
            out |= {one: text for one in alive if one not in kept}
            alive = kept
        if common:
            spent = _seconds(trials, accounted)
            points.append(Point(spent, *_pair(alive), _lead(trials, *_pair(alive), common)))
    if not common:
        raise ValueError(
            "advise.hours: the time is up before two candidates were trained; what is done is "
            "kept, and the same command with more hours goes on from there"
        )
    baseline, contender = _pair(alive)
    lead = _lead(trials, baseline, contender, common)
    out |= {one: "second to the best of its kind" for one in alive[::-1]
            if one not in (baseline, contender)}  # fmt: skip
    return Found(baseline, contender, tuple(common), lead, tuple(points), out)


def least(candidates: Sequence[Candidate], trials: Trials, first_steps: float) -> float:
    """Seconds of the shortest search: one candidate of each kind, with `LEAST_SEEDS` seeds."""
    pair = _mixed(candidates)[:2]
    return trials.cost(list(_trials(pair, LEAST_SEEDS, first_steps)))


def most(candidates: Sequence[Candidate], trials: Trials, seeds: int, first_steps: float) -> float:
    """Seconds of a search that is never short of time, should the first half always go on."""
    alive, wanted = _mixed(candidates), []
    for seed, steps, halved in rounds(seeds, first_steps):
        wanted += [Trial(one, seed, steps) for one in alive]
        alive = alive[: _half(len(alive))] if halved else alive
    return trials.cost(wanted)


def _trials(candidates: Sequence[Candidate], seeds: int, first_steps: float) -> Iterator[Trial]:
    for seed, steps, _ in rounds(seeds, first_steps):
        yield from (Trial(one, seed, steps) for one in candidates)


def _affordable(
    alive: Sequence[Candidate], place: Round, trials: Trials, before: Collection[Trial]
) -> list[Candidate]:
    """The first of `alive` for which there is time, if two of them still get their seeds; they
    come with the best of both kinds ahead. Empty where there is no time for these two.

    `before` are the trials of earlier rounds. What was run beyond them, by a search that had more
    or fewer seconds, has cost nothing yet.
    """
    ordered = _mixed(alive)
    seed, steps, limit = place
    left = limit - _seconds(trials, before)
    after = range(seed if steps < 1 else seed + 1, LEAST_SEEDS)

    def cost(wanted: Sequence[Trial]) -> float:
        return _seconds(trials, wanted) + trials.cost(wanted)

    for count in range(len(ordered), 1, -1):
        running = ordered[:count]
        now = [Trial(one, seed, steps) for one in running]
        # Any two may be the last ones: time is left for the dearest of each kind.
        later = [
            Trial(max(kind, key=lambda one: cost([Trial(one, other)])), other)  # noqa: B023
            for other in after
            for kind in _kinds(running)
        ]
        if cost([*now, *later]) <= left:
            return running
    return []


def _seconds(trials: Trials, some: Collection[Trial]) -> float:
    """Seconds of those trials that were run."""
    return sum(trials.outcomes[one].seconds for one in some if one in trials.outcomes)


def _kinds(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    return [[one for one in candidates if one.generates is kind] for kind in (False, True)]


def _mixed(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Both kinds in their order, evenly mixed: the first two are of both kinds."""
    places: dict[Candidate, tuple[float, bool]] = {}
    for kind in (False, True):
        own = [one for one in candidates if one.generates is kind]
        places |= {one: (place / len(own), kind) for place, one in enumerate(own)}
    return sorted(places, key=lambda one: places[one])


def _half(count: int) -> int:
    return max(2, math.ceil(count / 2))


def _better_half(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The better half of a ranking, with the best of each kind."""
    kept = set(ranked[: _half(len(ranked))]) | set(_pair(ranked))
    return [one for one in ranked if one in kept]


def _pair(ranked: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """The best without generated images, and the best with."""
    return (
        next(one for one in ranked if not one.generates),
        next(one for one in ranked if one.generates),
    )


def _top1(trials: Trials, candidate: Candidate, seed: int, steps: float) -> float | None:
    outcome = trials.outcomes.get(Trial(candidate, seed, steps))
    return None if outcome is None else outcome.top1


def _mean(trials: Trials, candidate: Candidate, at: Sequence[tuple[int, float]]) -> float:
    values = [_top1(trials, candidate, seed, steps) for seed, steps in at]
    return float(np.mean([value for value in values if value is not None]))


def _lead(
    trials: Trials, baseline: Candidate, contender: Candidate, seeds: Sequence[int]
) -> Estimate:
    values, others = (
        [trials.outcomes[Trial(one, seed)].top1 or 0.0 for seed in seeds]
        for one in (contender, baseline)
    )
    return paired_difference(values, others)


def _rounds_text(at: Sequence[tuple[int, float]]) -> str:
    if at[0][1] < 1:
        return f"worse half after {100 * at[0][1]:.0f} % of the steps"
    return f"worse half after {len(at)} seed{'s' if len(at) > 1 else ''}"


def _all_failed(out: Mapping[Candidate, str]) -> str:
    lines = "".join(f"\n  {one.name}: {why}" for one, why in out.items())
    return f"advise.candidates: one with and one without generated images must be left:{lines}"
