"""The search, with a table in place of trainings."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sgid.advise.candidates import Candidate
from sgid.advise.search import Found, Trial, least, most, rounds, search
from sgid.evaluation.statistics import paired_difference
from tests.advise.table import TableTrials, candidates

ALL = candidates(3, 9)


def noisy(means: dict[Candidate, float], spread: float = 0.5):
    """Top-1 of each candidate around its mean, the same for the same trial."""

    def top1(trial: Trial) -> float:
        drawn = random.Random(f"{trial.candidate.name} {trial.seed} {trial.steps}")
        return means[trial.candidate] + drawn.gauss(0, spread) - 5 * (trial.steps < 1)

    return top1


def graded(best: Candidate, lead: float) -> dict[Candidate, float]:
    """60, 61, ... within each kind; `best` leads the best of the other kind by `lead`."""
    means = {one: 60.0 + place for place, one in enumerate(ALL[:3])}
    means |= {one: 50.0 + place for place, one in enumerate(ALL[3:])}
    others = max(value for one, value in means.items() if one.generates != best.generates)
    return {**means, best: others + lead}


def test_rounds_give_more_seeds_to_fewer():
    assert list(rounds(4, 0.5)) == [
        (0, 0.5, True), (0, 1.0, False), (1, 1.0, True), (2, 1.0, False), (3, 1.0, True),
    ]  # fmt: skip
    assert list(rounds(2, 1.0)) == [(0, 1.0, True), (1, 1.0, True)]


@pytest.mark.parametrize("best", [ALL[5], ALL[11]])
def test_the_best_is_kept_and_advised(best):
    trials = TableTrials(noisy(graded(best, 4)))
    found = search(ALL, trials, limit=1000, seeds=8, first_steps=0.5)
    assert found.contender == found.advised == best and found.sure
    assert found.baseline == ALL[2]
    assert found.seeds == tuple(range(8))
    assert found.lead.low < 4 < found.lead.high and found.lead.supported
    assert set(found.out) == set(ALL) - {found.baseline, found.contender}
    # Halving: half of the field after the first round, half of that after two seeds.
    counts = [sum(one.seed == s and one.steps == k for one in trials.outcomes)
              for s, k, _ in rounds(8, 0.5)]  # fmt: skip
    assert counts[0] == 12 and counts[1] <= 7 and counts[-1] == 2
    assert counts == sorted(counts, reverse=True)
    assert trials.spent <= most(ALL, trials, 8, 0.5) + trials.spent


@pytest.mark.parametrize(("lead", "spread", "generate"), [(0.1, 0.5, False), (4, 8, True)])
def test_what_may_be_chance_is_advised_only_where_it_is_much(lead, spread, generate):
    means = graded(ALL[11], lead) | {one: 0.0 for one in ALL[3:11]}
    found = search(ALL[2:], TableTrials(noisy(means, spread)), limit=1000, seeds=4)
    assert not found.sure
    assert found.advised == (found.contender if generate else found.baseline)


@pytest.mark.parametrize("limit", [7, 10, 15, 25])
def test_it_stays_within_its_seconds_and_answers(limit):
    trials = TableTrials(noisy(graded(ALL[3], 6)))
    found = search(ALL, trials, limit=limit, seeds=8, first_steps=0.5)
    assert trials.spent <= limit
    assert len(found.seeds) >= 2
    assert [point.seconds for point in found.points] == sorted(p.seconds for p in found.points)


def test_more_seconds_train_more_candidates_first():
    firsts = []
    for limit in (6, 8, 40):
        trials = TableTrials(noisy(graded(ALL[3], 6)))
        search(ALL, trials, limit=limit, seeds=8, first_steps=0.5)
        firsts.append(sum(one.steps < 1 for one in trials.outcomes))
    assert firsts[0] < firsts[1] < firsts[2] == len(ALL)


def test_costs_that_were_told_too_low_end_the_search_not_the_budget():
    trials = TableTrials(noisy(graded(ALL[3], 6)))
    trials.misjudged = lambda done: 1 / 3
    found = search(ALL, trials, limit=20, seeds=8, first_steps=0.5)
    assert trials.spent <= 20 and len(found.seeds) >= 2


@pytest.mark.parametrize("limit", [13, 16, 20, 60])
@pytest.mark.parametrize("left", [0, 1, 5, 0.5, 0.9])
@pytest.mark.parametrize("misjudged", [1.0, 0.8, 1.3])
def test_a_killed_search_goes_on_and_runs_nothing_twice(limit, left, misjudged):
    """Also where its time is used up, or none of its trials is left; estimates become better."""
    top1 = noisy(graded(ALL[7], 3))
    seconds = {one: 1 + place / 20 for place, one in enumerate(ALL)}  # no whole number fits

    def takes(trial: Trial) -> float:
        return trial.steps * seconds[trial.candidate]

    def found(trials: TableTrials) -> Found:
        return search(ALL, trials, limit=limit, seeds=4, first_steps=0.5)

    def trials(**given: Any) -> TableTrials:
        error = misjudged - 1
        return TableTrials(top1, takes, misjudged=lambda done: 1 + error / (1 + done), **given)

    whole = trials()
    expected = found(whole)
    count = len(whole.run_here)
    first = trials(stop_after=round(left * count) if 0 < left < 1 else count - left)
    try:
        found(first)
    except KeyboardInterrupt:
        assert left
    second = trials(outcomes=dict(first.outcomes), rounds=dict(first.rounds))
    assert found(second) == expected
    assert first.run_here + second.run_here == whole.run_here


def test_a_search_that_used_up_its_time_goes_on_with_more():
    top1 = noisy(graded(ALL[7], 3))
    short = TableTrials(top1)
    before = search(ALL, short, limit=20, seeds=8, first_steps=0.5)
    more = TableTrials(top1, outcomes=dict(short.outcomes), rounds=dict(short.rounds))
    after = search(ALL, more, limit=60, seeds=8, first_steps=0.5)
    assert len(after.seeds) > len(before.seeds) and more.spent <= 60
    assert not set(short.run_here) & set(more.run_here)


def test_one_that_fails_is_out_with_its_reason():
    top1 = noisy(graded(ALL[3], 6))
    trials = TableTrials(lambda trial: None if trial.candidate == ALL[3] else top1(trial))
    found = search(ALL, trials, limit=1000, seeds=4, first_steps=0.5)
    assert found.out[ALL[3]] == "failed: out of memory"
    assert sum(one.candidate == ALL[3] for one in trials.outcomes) == 1


def test_if_all_of_a_kind_fail_it_says_so():
    trials = TableTrials(lambda trial: None if trial.candidate.generates else 60.0)
    with pytest.raises(ValueError, match=r"must be left:\n  aug=\[drawn0\]: failed: out of memory"):
        search(ALL, trials, limit=1000, seeds=4)


def test_the_shortest_search_is_what_it_says():
    trials = TableTrials(noisy(graded(ALL[3], 6)))
    needed = least(ALL, trials, 0.5)
    assert needed == 2 * (0.5 + 2)
    with pytest.raises(ValueError, match="advise.hours: the time is up"):
        search(ALL, trials, limit=needed - 0.1, seeds=8, first_steps=0.5)
    found = search(ALL, trials, limit=needed, seeds=8, first_steps=0.5)
    assert found.seeds == (0, 1) and trials.spent == needed


def test_time_is_left_for_the_dearest_two():
    """The best is listed last, and takes three times as long as the others."""
    trials = TableTrials(
        noisy(graded(ALL[11], 6)), seconds=lambda trial: 3.0 if trial.candidate == ALL[11] else 1.0
    )
    found = search(ALL, trials, limit=14 + 4, seeds=2)
    assert found.contender == ALL[11] and found.seeds == (0, 1) and trials.spent <= 18


@pytest.mark.parametrize(("leads", "advised"), [([9.0], False), ([9.0, 0.5], True)])
def test_one_seed_advises_no_generation(leads, advised):
    """A lead of one seed may be luck, however large."""
    plain, drawn = Candidate(("aug=[flip_crop]",), False), Candidate(("aug=[sgid]",), True)
    lead = paired_difference(leads, [0.0] * len(leads))
    found = Found(plain, drawn, tuple(range(len(leads))), lead, ())
    assert (found.advised is drawn) is advised
