"""Trials as jobs of Hydra's launcher, and the journal that outlives a kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sgid.advise.candidates import Candidate
from sgid.advise.search import Outcome, Round, Trial
from sgid.runtime.launcher import POINTER
from sgid.runtime.signals import find_stop
from sgid.stages.run import CHECKPOINTS
from sgid.stages.screen import SCREEN, Screening

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from sgid.stages.run import Run

Launch = Callable[[Sequence[Sequence[str]]], "Sequence[JobReturn]"]

RESULT = "result.json"

SCREENING = 0.25
"""Share of the hours that screening may take; what is not screened by then is not ruled out."""


@dataclass(frozen=True)
class Job:
    """The end of a job: the folder that it left, or why it failed, and its seconds."""

    folder: Path | None
    reason: str | None
    seconds: float


@dataclass
class Journal:
    """Lines of JSON, one for each job that has ended and each round that has begun; the last may be
    cut off by a kill.
    """

    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            return
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        self.lines = [json.loads(line) for line in whole.splitlines()]
        if whole != text:
            self.path.write_bytes(whole)

    def add(self, line: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.lines.append(line)


@dataclass
class JobTrials:
    """Trials of `sgid.advise.search`, each a job `stage=validate`.

    Args:
        options: the user's own, as typed, for every job.
        runs: the run of each candidate with seed 0, which tells what it costs.
        journal: of this search. Failures in it are tried again by the next process.
        launch: gives jobs, each a list of options, to Hydra's launcher, and waits for them.
        parallel: jobs that the launcher runs at a time.
        redraw: whether each seed draws a validation part of its own.
        first_steps: share of the training steps that trials of less than 1 take.
    """

    options: Sequence[str]
    runs: Mapping[Candidate, Run]
    journal: Journal
    launch: Launch
    parallel: int
    redraw: bool
    console: Console
    outcomes: dict[Trial, Outcome] = field(default_factory=dict)
    folders: dict[Trial, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        by_options = {one.options: one for one in self.runs}
        for line in self.journal.lines:
            if "top1" not in line:
                continue
            if candidate := by_options.get(tuple(line["candidate"])):
                trial = Trial(candidate, line["seed"], line["steps"])
                self.outcomes[trial] = Outcome(line["top1"], line["seconds"])
                self.folders[trial] = Path(line["folder"])

    # What a search decided

    def planned(self, place: Round) -> list[Candidate] | None:
        by_options = {one.options: one for one in self.runs}
        for line in reversed(self.journal.lines):
            if tuple(line.get("round", ())) == place:
                told = [by_options.get(tuple(options)) for options in line["running"]]
                return None if None in told else [one for one in told if one is not None]
        return None

    def plan(self, place: Round, running: Sequence[Candidate]) -> None:
        self.journal.add({"round": place, "running": [one.options for one in running]})

    def begun(self, limit: float) -> bool:
        """Whether a search within these seconds has begun."""
        return any(line["round"][2] == limit for line in self.journal.lines if "round" in line)

    # What trials cost

    def cost(self, trials: Sequence[Trial]) -> float:
        """Seconds by the rates that were measured here, times what jobs took longer so far.

        What no rate is known of counts as nothing.
        """
        return self._estimate(trials) * self._overhead() / self.parallel

    @property
    def known(self) -> bool:
        """Whether there are rates for all that candidates do."""
        return all(None not in self._costs(one) for one in self.runs)

    def _costs(self, candidate: Candidate) -> tuple[float | None, float | None]:
        return self.runs[candidate].costs()

    def _estimate(self, trials: Sequence[Trial]) -> float:
        total, drawn = 0.0, {self._stores(trial) for trial in self.outcomes}
        costs = {trial.candidate: self._costs(trial.candidate) for trial in trials}
        for trial in trials:
            if trial in self.outcomes:
                continue
            images, training = costs[trial.candidate]
            total += trial.steps * (training or 0.0)
            if (stores := self._stores(trial)) not in drawn:
                total += images or 0.0
                drawn.add(stores)
        return total

    def _stores(self, trial: Trial) -> tuple[object, ...]:
        """The same for trials that train on the same images."""
        run = self.runs[trial.candidate]
        return (trial.seed, *(one.generated.folder.name for one in run.augmentations))

    def _overhead(self) -> float:
        done = [line for line in self.journal.lines if line.get("estimate")]
        told = sum(line["estimate"] for line in done)
        return sum(line["seconds"] * self.parallel for line in done) / told if told else 1.0

    # Jobs

    def run(self, trials: Sequence[Trial], limit: float) -> None:
        """Run trials in this order, `parallel` at a time, none that would end beyond `limit`."""
        left = [trial for trial in trials if trial not in self.outcomes]
        while left:
            chunk, left = left[: self.parallel], left[self.parallel :]
            if self.spent + self.cost(chunk) > limit:
                return
            estimates = [self._estimate([trial]) for trial in chunk]
            jobs = self._jobs([self.of_trial(trial, "validate") for trial in chunk])
            for trial, job, estimate in zip(chunk, jobs, estimates, strict=True):
                top1 = None if job.folder is None else _validation_top1(job.folder)
                self.outcomes[trial] = Outcome(top1, job.seconds, job.reason)
                line = {
                    "candidate": trial.candidate.options,
                    "seed": trial.seed,
                    "steps": trial.steps,
                    "seconds": job.seconds,
                    "estimate": estimate,
                }
                if job.folder is not None:  # what failed is tried again by the next process
                    self.folders[trial] = job.folder
                    self.journal.add({**line, "top1": top1, "folder": str(job.folder)})
                self._say(trial, self.outcomes[trial], limit)

    @property
    def spent(self) -> float:
        """Seconds of all trials so far."""
        return sum(outcome.seconds for outcome in self.outcomes.values())

    def of_trial(self, trial: Trial, stage: str) -> list[str]:
        """The options of a trial's run."""
        words = [*self.options, *trial.candidate.options, f"seed={trial.seed}", f"stage={stage}"]
        if self.redraw:
            words.append(f"dataset.validation_seed={trial.seed}")
        backbone = self.runs[trial.candidate].config.backbone
        if trial.steps < 1:
            for name in ("steps", "epochs"):
                if (whole := getattr(backbone, name)) is not None:
                    words.append(f"backbone.{name}={max(1, round(trial.steps * whole))}")
        return words

    def screen(
        self, candidates: Sequence[Candidate], limit: float
    ) -> dict[Candidate, list[Screening]]:
        """Ratings of a few images of each candidate, made where they are not in the journal."""
        known = {tuple(line["candidate"]): line for line in self.journal.lines if "rated" in line}
        for candidate in candidates:
            if candidate.options in known or self.screening_seconds > limit:
                continue
            words = [*self.options, *candidate.options, "stage=screen", "seed=0"]
            (job,) = self._jobs([words])
            rated = None
            if job.folder is not None:
                rated = json.loads((job.folder / SCREEN).read_text(encoding="utf-8"))
            line = {"candidate": candidate.options, "rated": rated, "seconds": job.seconds}
            known[candidate.options] = line
            if job.reason is None:
                self.journal.add(line)
        names = ("method", "consistency", "diversity", "reference", "images")
        return {
            one: [Screening(**{name: rating[name] for name in names}) for rating in line["rated"]]
            for one in candidates
            if (line := known.get(one.options)) and line["rated"]
        }

    @property
    def screening_seconds(self) -> float:
        return sum(line["seconds"] for line in self.journal.lines if "rated" in line)

    def finish(self, trials: Sequence[Trial]) -> list[Path]:
        """Score the test set with trained trials that were not yet; the folders of their results,
        in the order given.

        Raises:
            ValueError: if one failed.
        """
        left = [one for one in trials if not (self.folders[one] / RESULT).is_file()]
        for start in range(0, len(left), self.parallel):
            chunk = left[start : start + self.parallel]
            jobs = self._jobs([self.of_trial(trial, "evaluate") for trial in chunk])
            for trial, job in zip(chunk, jobs, strict=True):
                if job.folder is None:
                    raise ValueError(
                        f"the test of {trial.candidate.name} seed={trial.seed} failed: "
                        f"{job.reason}. The same command goes on from there"
                    )
                self.folders[trial] = job.folder
        return [self.folders[trial] for trial in trials]

    def _jobs(self, jobs: Sequence[Sequence[str]]) -> list[Job]:
        started = time.perf_counter()
        returned = self.launch(jobs)
        seconds = (time.perf_counter() - started) / len(jobs)
        return [_ended(one, seconds) for one in returned]

    def _say(self, trial: Trial, outcome: Outcome, limit: float) -> None:
        share = "" if trial.steps == 1 else f", {100 * trial.steps:.0f} % of the steps"
        found = f"{outcome.top1:.1f} %" if outcome.top1 is not None else f"failed: {outcome.reason}"
        self.console.print(
            f"advise: {trial.candidate.name}, seed {trial.seed}{share}: validation {found} "
            f"({self.spent / 60:.1f} of {limit / 60:.1f} minutes)",
            style="bold", highlight=False, markup=False,
        )  # fmt: skip


def _ended(job: JobReturn, seconds: float) -> Job:
    """Outcome of a job that has ended, read from its folder.

    Raises:
        Stopped: if it was stopped by a signal, as this process then is.
    """
    from hydra.core.utils import JobStatus

    error = job._return_value
    if job.status is not JobStatus.COMPLETED and isinstance(error, BaseException):
        if stop := find_stop(error):
            raise stop from error
        return Job(None, str(error).strip().partition("\n")[0] or type(error).__name__, seconds)
    assert job.hydra_cfg is not None
    output = Path(job.hydra_cfg.hydra.runtime.output_dir)
    told = (output / POINTER).read_text(encoding="utf-8").strip()
    return Job(Path(told) if told else None, None, seconds)


def _validation_top1(folder: Path) -> float:
    """Of the best checkpoint of a run, in percent."""
    result, trained = folder / RESULT, folder / CHECKPOINTS / "train.json"
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))["metrics"]["validation/top1"]
    return json.loads(trained.read_text(encoding="utf-8"))["validation/top1"]
