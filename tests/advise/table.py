"""Trials that are looked up in a table, in place of trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sgid.advise.candidates import Candidate
from sgid.advise.search import Outcome, Round, Trial


def candidates(plain: int, generating: int) -> list[Candidate]:
    kinds = [(f"aug=[plain{i}]", False) for i in range(plain)]
    kinds += [(f"aug=[drawn{i}]", True) for i in range(generating)]
    return [Candidate((name,), generates) for name, generates in kinds]


@dataclass
class TableTrials:
    """Each trial takes `seconds(trial)`, and ends with `top1(trial)`.

    Estimates are `misjudged(trials run)` times what is true.
    """

    top1: Callable[[Trial], float | None]
    seconds: Callable[[Trial], float] = lambda trial: trial.steps
    outcomes: dict[Trial, Outcome] = field(default_factory=dict)
    run_here: list[Trial] = field(default_factory=list)
    stop_after: int | None = None
    rounds: dict[Round, Sequence[Candidate]] = field(default_factory=dict)
    misjudged: Callable[[int], float] = lambda done: 1.0

    def planned(self, place: Round) -> Sequence[Candidate] | None:
        return self.rounds.get(place)

    def plan(self, place: Round, running: Sequence[Candidate]) -> None:
        self.rounds[place] = running

    def cost(self, trials: Sequence[Trial]) -> float:
        true = sum(self.seconds(one) for one in trials if one not in self.outcomes)
        return true * self.misjudged(len(self.outcomes))

    def run(self, trials: Sequence[Trial], limit: float) -> None:
        for trial in trials:
            if trial in self.outcomes:
                continue
            if self.spent + self.cost([trial]) > limit:
                return
            if len(self.run_here) == self.stop_after:
                raise KeyboardInterrupt
            top1 = self.top1(trial)
            reason = None if top1 is not None else "out of memory"
            self.outcomes[trial] = Outcome(top1, self.seconds(trial), reason)
            self.run_here.append(trial)

    @property
    def spent(self) -> float:
        return sum(one.seconds for one in self.outcomes.values())
