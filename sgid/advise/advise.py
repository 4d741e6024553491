"""`experiment=advise`: search, test the last two once, and write the page."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sgid.advise.candidates import OPTION, Candidate, expand
from sgid.advise.screening import rule_out, score
from sgid.advise.search import LEAST_SEEDS, Found, Trial, least, most, search
from sgid.advise.trials import SCREENING, JobTrials, Journal, Launch
from sgid.config.compose import CONF, run_choices
from sgid.config.help import explain, own_folders
from sgid.config.schema import Config
from sgid.evaluation.statistics import mean_interval, paired_difference
from sgid.models.loader import Loaded
from sgid.models.scope import limits
from sgid.reporting.advice import Advice, Answer, Arm, write
from sgid.reporting.format import command, value_text
from sgid.reporting.results import load_result
from sgid.reproducibility import CODE, fingerprint
from sgid.runtime.files import file_lock
from sgid.stages.run import Run, prepare
from sgid.stages.validation import invalid_options

if TYPE_CHECKING:
    from omegaconf import DictConfig

NAME = "advise"

RESERVE = 0.1
"""Share of the hours that is kept for the test at the end."""

SMALL = 1000
"""Validation images below which each seed draws a validation part of its own."""

MANAGED = ("seed", "stage", "aug", "dataset.validation_seed")
"""Options that a search sets itself."""

Compose = Callable[[Sequence[str]], "DictConfig"]


def advise(config: DictConfig, arguments: Sequence[str], compose: Compose, launch: Launch) -> None:
    """Find out which candidate is best for the images of these options, and say so on a page.

    Args:
        config: the config of the sweep, with Hydra's own section.
        arguments: the options that were typed, but Hydra's own.
        compose: the config of a job, by its options.
        launch: runs jobs, by their options.

    Raises:
        ValueError: for what the user can correct, before any work where that can be known.
    """
    console = Console(soft_wrap=True)
    typed = _typed(config)
    if wrong := [line for line in invalid_options(typed) if line.startswith(f"{NAME}.")]:
        raise ValueError("\n".join(wrong))
    asked = typed.advise
    options = user_options(arguments, compose)
    candidates = read_candidates(asked.candidates, options, compose)
    runs = {one: _prepared(one, options, compose) for one in candidates}
    candidates = [Candidate(one.options, bool(run.augmentations)) for one, run in runs.items()]
    runs = dict(zip(candidates, runs.values(), strict=True))
    _check(candidates, runs)
    first = runs[candidates[0]]
    folder = (
        Path(config.paths.results) / NAME / search_name(runs, asked.first_steps, asked.screened)
    )
    waiting = partial(console.print, f"another process searches in {folder}: waiting")
    with file_lock(folder / ".lock", on_wait=waiting):
        trials = JobTrials(
            options=options,
            runs=runs,
            journal=Journal(folder / "journal.jsonl"),
            launch=launch,
            parallel=_parallel(config.hydra.launcher),
            redraw=_redrawn(first),
            console=console,
        )
        found, screened = _search(candidates, trials, asked, console)
        results = _tested(found, trials)
        advice = _advice(found, screened, results, trials, asked.hours)
        page = write(advice, folder)
    console.print(advice.headline, style="bold", highlight=False, markup=False)
    for text in (*advice.limits, advice.sureness, advice.tested, advice.advised.command):
        console.print(text, highlight=False, markup=False)
    console.print(str(page), style="dim", highlight=False, markup=False)


def user_options(arguments: Sequence[str], compose: Compose) -> list[str]:
    """The typed options that hold for every candidate: all but those of the search itself.

    Raises:
        ValueError: if one is a sweep, is set by the search, or is an experiment with more than
            options of `advise`.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    kept, experiments = [], []
    for word, one in zip(arguments, OverridesParser.create().parse_overrides(list(arguments)),
                         strict=True):  # fmt: skip
        name = one.key_or_group
        if one.is_sweep_override():
            raise ValueError(
                f"{word}: experiment=advise has candidates in place of a sweep; write them as "
                f"lines of {OPTION}"
            )
        if name in MANAGED:
            raise ValueError(f"{word}: experiment=advise sets {name} itself; leave it out")
        if name == "experiment":
            experiments.append(word)
        elif name.partition(".")[0] != NAME:
            kept.append(word)
    plain = _plain(compose(kept))
    for word in experiments:
        chosen = _plain(compose([word, *kept]))
        if differing := sorted(key for key in plain if plain[key] != chosen[key]):
            raise ValueError(
                f"{word} sets {', '.join(differing)}: for a search an experiment has options of "
                "advise alone, since what it finds is used without it; give the others as options"
            )
    return kept


def _plain(config: DictConfig) -> dict[str, Any]:
    """The config of a job without what is Hydra's and the search's own."""
    from omegaconf import OmegaConf

    told = OmegaConf.to_container(config, resolve=False)
    assert isinstance(told, dict)
    return {str(key): value for key, value in told.items() if key not in ("hydra", NAME)}


def _typed(composed: DictConfig) -> Config:
    """The config without Hydra's own section."""
    from omegaconf import OmegaConf, open_dict

    own = deepcopy(composed)
    with open_dict(own):
        del own["hydra"]
    config: Any = OmegaConf.to_object(own)
    assert isinstance(config, Config)
    return config


def read_candidates(
    lines: Sequence[str], options: Sequence[str], compose: Compose
) -> list[Candidate]:
    """The candidates that lines of options name; `generates` is known once they are composed.

    Raises:
        ValueError: naming a line that cannot be read or composed, or an option that was typed as
            well.
    """
    if not lines:
        raise ValueError(f"{OPTION} is empty: experiment=advise has a list of them")
    candidates = [Candidate(one, False) for one in expand(lines)]
    typed = {word.lstrip("+~").partition("=")[0]: word for word in options}
    for candidate in candidates:
        if "aug" not in candidate.keys:
            raise ValueError(f"{OPTION}: {candidate.name!r} names no aug=")
        if twice := sorted(candidate.keys & typed.keys()):
            raise ValueError(
                f"{typed[twice[0]]}: {OPTION} has it as well ({candidate.name}); leave it out, or "
                "take it out of the candidates"
            )
    return candidates


def _prepared(candidate: Candidate, options: Sequence[str], compose: Compose) -> Run:
    """The run of a candidate with seed 0, looked up and not begun.

    Raises:
        ValueError, FileNotFoundError: for what the user can correct, with the candidate's name
            where it is about its own options.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    words = [*options, *candidate.options, "seed=0", "stage=validate"]
    try:
        composed = compose(words)
        groups = dict(composed.hydra.runtime.choices)
        config = _typed(composed)
    except (HydraException, OmegaConfBaseException) as error:
        text = explain(CONF, str(error), *own_folders(sys.argv[1:]))
        raise ValueError(f"{OPTION}: {candidate.name!r}: {text}") from error
    try:
        return prepare(config, run_choices(groups, config), words, loaded=Loaded())
    except ValueError as error:
        raise ValueError(f"{candidate.name}: {error}") from error


def _check(candidates: Sequence[Candidate], runs: Mapping[Candidate, Run]) -> None:
    for generates, what in ((False, "without"), (True, "with")):
        if not any(one.generates is generates for one in candidates):
            raise ValueError(
                f"{OPTION}: none is {what} generated images; the answer is the difference between "
                "the best of both kinds"
            )
    run = runs[candidates[0]]
    if not len(run.dataset.validation):
        raise ValueError(
            f"{run.dataset.name} has no validation images, on which candidates are compared: "
            "dataset.validation=0.1 holds some out where the set has none of its own"
        )


def _redrawn(run: Run) -> bool:
    """Whether each seed draws its own validation part: it is drawn from train, and small."""
    own = run.ready.splits.validation is not None and not run.config.dataset.trainval
    return not own and len(run.dataset.validation) < SMALL


def search_name(runs: Mapping[Candidate, Run], first_steps: float, screened: int) -> str:
    """Fingerprint of a search: of its images and all that its runs do, but not of its hours."""
    told = sorted(run.folder.name for run in runs.values())
    return fingerprint({"code": CODE, "runs": told, "steps": first_steps, "screened": screened})


def _parallel(launcher: Any) -> int:
    """Jobs that a launcher runs at a time, by its own options."""
    for name in ("n_jobs", "array_parallelism"):
        if (count := launcher.get(name)) is not None:
            return int(count) if count > 0 else os.cpu_count() or 1
    return 1


def _search(
    candidates: Sequence[Candidate], trials: JobTrials, asked: Any, console: Console
) -> tuple[Found, list[tuple[str, float, float, float]]]:
    """Screen, then search."""

    def say(text: str) -> None:
        console.print(f"advise: {text}", style="bold", highlight=False, markup=False)

    hours = asked.hours * 3600
    limit = hours * (1 - RESERVE) - trials.screening_seconds
    generating = [one for one in candidates if one.generates]
    parts = f"{len(candidates)} candidates, {len(generating)} of them with generated images"
    if trials.known:
        text = f"{parts}; by the rates measured here a whole search takes about "
        text += _duration(most(candidates, trials, asked.seeds, asked.first_steps))
        say(f"{text}, and the shortest {_duration(least(candidates, trials, asked.first_steps))}; "
            f"advise.hours={value_text(asked.hours)}")  # fmt: skip
        _enough(candidates, trials, asked, limit)
    else:
        say(
            f"{parts}; nothing was measured here yet: the first jobs tell what the others will take"
        )
    rated = trials.screen(generating, SCREENING * hours) if asked.screened else {}
    out = rule_out(rated, asked.least_score)
    for candidate, why in out.items():
        say(f"{candidate.name}: {why}")
    left = [one for one in candidates if one not in out]
    limit = hours * (1 - RESERVE) - trials.screening_seconds
    if not trials.known:
        plain = next(one for one in left if not one.generates)
        trials.run([Trial(plain, 0, asked.first_steps)], limit)
    _enough(left, trials, asked, limit)
    found = search(left, trials, limit=limit, seeds=asked.seeds, first_steps=asked.first_steps)
    rows = [
        (one.name, _mean(r.consistency for r in rs), _mean(r.diversity for r in rs), score(rs))
        for one, rs in rated.items()
    ]
    return replace(found, out={**out, **found.out}), rows


def _enough(candidates: Sequence[Candidate], trials: JobTrials, asked: Any, limit: float) -> None:
    """Raise a `ValueError` if there is no time for the shortest search, and none has begun."""
    if trials.begun(limit):
        return
    needed = least(candidates, trials, asked.first_steps)
    if needed and (short := trials.spent + needed - limit) > 0:
        figure = math.ceil(100 * (asked.hours + short / 3600 / (1 - RESERVE))) / 100
        raise ValueError(
            f"advise.hours={value_text(asked.hours)} is too little: one candidate of each kind "
            f"with {LEAST_SEEDS} seeds takes about {_duration(needed)} here, and a test comes at "
            f"the end; advise.hours={value_text(figure)} would do"
        )


def _mean(values: Any) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _tested(found: Found, trials: JobTrials) -> dict[Candidate, list[float]]:
    """Test top-1 by seed of the last two: the only runs that are scored on the test set."""
    pair = (found.baseline, found.contender)
    order = [Trial(one, seed) for one in pair for seed in found.seeds]
    results = [load_result(folder) for folder in trials.finish(order)]
    top1 = [result.metrics["test/top1"] for result in results]
    count = len(found.seeds)
    return {found.baseline: top1[:count], found.contender: top1[count:]}


def _advice(
    found: Found,
    screened: Sequence[tuple[str, float, float, float]],
    tested: Mapping[Candidate, Sequence[float]],
    trials: JobTrials,
    hours: float,
) -> Advice:
    notes = {
        found.baseline: "best without generated images",
        found.contender: "best with generated images",
        **found.out,
    }
    values = {
        one: [
            outcome.top1
            for trial, outcome in trials.outcomes.items()
            if trial.candidate == one and trial.steps == 1 and outcome.top1 is not None
        ]
        for one in trials.runs
    }

    def rank(candidate: Candidate) -> tuple[int, float]:
        """The last two first, then by seeds, then by the mean."""
        last = candidate in (found.baseline, found.contender)
        own = values[candidate]
        return (-(99 if last else len(own)), -(_mean(own) if own else 0.0))

    ordered = sorted(trials.runs, key=rank)
    arms = tuple(
        Arm(
            name=one.name,
            generates=one.generates,
            validation=mean_interval(values[one]) if values[one] else None,
            test=mean_interval(tested[one]) if one in tested else None,
            note=notes.get(one, ""),
            command=command([*trials.options, *one.options]),
        )
        for one in ordered
    )
    run = trials.runs[found.baseline]
    data, offset = run.dataset, trials.screening_seconds
    drawn = "drawn again for each seed" if trials.redraw else data.protocol["validation_from"]
    return Advice(
        dataset=data.name,
        backbone=run.choices["backbone"],
        arms=arms,
        baseline=ordered.index(found.baseline),
        contender=ordered.index(found.contender),
        advised=arms[ordered.index(found.advised)],
        lead=found.lead,
        gain=paired_difference(tested[found.contender], tested[found.baseline]),
        answers=tuple(
            Answer((offset + at.seconds) / 3600, at.contender.name, at.baseline.name, at.lead)
            for at in found.points
        ),
        images=(
            f"{len(data.train):,} training images, {len(data.validation):,} for validation "
            f"({drawn}), {len(data.test):,} for the test, {len(data.class_names)} classes"
        ),
        hours=hours,
        spent=(offset + trials.spent) / 3600,
        limits=tuple(limits(asdict(run.config.models), run.config.dataset.name, generates=True)),
        screening=tuple(screened),
    )
