"""Results of a study: means, paired differences, agreement of raters, as tables, a figure and CSV.

The originals are the sample. Of each, what the raters say counts once, as their mean, so that many
ratings of one original are not taken for many originals. An interval then covers another draw of
originals, rated by the same raters.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from sgid.evaluation.statistics import Estimate, holm, mean_interval, paired_difference
from sgid.human_study.questions import KINDS, SCALE, UNCHANGED, Kind
from sgid.human_study.study import Rating, Study
from sgid.reporting.figure_files import encode
from sgid.reporting.figures import BLUE
from sgid.reporting.format import ABSENT, difference_text, mean_text
from sgid.reporting.table import Cell, Table
from sgid.runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Written:
    """The folder of the written results, and the tables to show."""

    folder: Path
    tables: list[Table]


def write_results(study_folder: Path, folder: Path, *, attentive: bool) -> Written:
    """Write `ratings` and `comparisons` (.md, .tex, .html), `ratings.png`, `.svg` and `.csv`.

    `attentive` leaves out all answers of raters who failed a check or answered none, in the CSV
    too.

    Raises:
        FileNotFoundError, ValueError: if there is no study, or nobody has rated.
    """
    study = Study(study_folder)
    about, ratings = study.about(), study.ratings()
    left_out = inattentive(ratings) | unchecked(ratings) if attentive else set()
    checks = _checks(ratings, attentive=attentive)
    ratings = [one for one in ratings if one.rater not in left_out]
    if not any(one.value is not None for one in ratings):
        serve = f"python -m sgid.human_study serve {study_folder}"
        if left_out:
            raise ValueError(
                f"{study.path}: nobody answered checks and passed them all; leave out --attentive"
            )
        raise ValueError(f"{study.path} has no ratings yet. People give them here: {serve}")
    tables, drawn = _made(about, ratings, checks)
    for name, table in tables.items():
        write_atomic(folder / f"{name}.md", table.markdown().encode())
        write_atomic(folder / f"{name}.tex", table.latex().encode())
        write_atomic(folder / f"{name}.html", table.html().encode())
    for form in ("png", "svg"):
        write_atomic(folder / f"ratings.{form}", encode(drawn, form))
    write_atomic(folder / "ratings.csv", as_csv(ratings).encode())
    return Written(folder, list(tables.values()))


def shown(study_folder: Path) -> tuple[dict[str, Table], Figure] | None:
    """The tables by name and the figure of a study, of all its raters; `None` without ratings."""
    study = Study(study_folder)
    ratings = study.ratings()
    if not any(one.value is not None for one in ratings):
        return None
    return _made(study.about(), ratings, _checks(ratings, attentive=False))


def _made(
    about: dict[str, Any], ratings: Sequence[Rating], checks: str
) -> tuple[dict[str, Table], Figure]:
    asked = [kind for kind in KINDS.values() if any(one.kind == kind.name for one in ratings)]
    tables = {"ratings": rating_table(about, ratings, asked, checks)}
    if len(about["methods"]) > 1:
        tables["comparisons"] = comparison_table(about, ratings, asked)
    return tables, figure(about, ratings, asked)


def rating_table(
    about: dict[str, Any], ratings: Sequence[Rating], asked: Sequence[Kind], checks: str
) -> Table:
    """A row for each question and method; the checks come last of each question."""
    rows = [
        _row(kind, method, [o for o in ratings if (o.kind, o.method) == (kind.name, method)])
        for kind in asked
        for method in (*about["methods"], UNCHANGED)
    ]
    headers = ("question", "method", "mean rating (1–5)", "originals", "ratings", "skipped")
    headers = (*headers, "raters", "median seconds")
    title = f"Ratings by people: {about['dataset']}"
    return Table(title, headers, tuple(rows), (*_notes(ratings, asked), checks))


def _row(kind: Kind, method: str, ratings: Sequence[Rating]) -> tuple[Cell, ...]:
    rated = values(ratings, kind.name, method)
    given = [one for one in ratings if one.value is not None]
    times = [one.seconds for one in given if one.seconds is not None]
    texts = (
        kind.title,
        f"{method} (check)" if method == UNCHANGED else method,
        mean_text(score(rated)) if rated else ABSENT,
        str(len(rated)),
        str(len(given)),
        str(len(ratings) - len(given)),
        str(len({one.rater for one in given})),
        f"{median(times):.1f}" if times else ABSENT,
    )
    return tuple(map(Cell, texts))


def _notes(ratings: Sequence[Rating], asked: Sequence[Kind]) -> tuple[str, ...]:
    notes = [f"{kind.title}: “{kind.ask}” 1: {kind.low}; 5: {kind.high}." for kind in asked]
    notes.append(
        "± is the half-width of the 95 % t-interval over the originals, each the mean of its "
        "raters: it covers other originals, not other raters."
    )
    for kind in asked:
        value, questions = alpha(ratings, kind.name)
        said = "not defined" if math.isnan(value) else f"{value:.2f}"
        notes.append(
            f"Krippendorff's alpha (ordinal), {kind.title}: {said}, over {questions} questions "
            "that two or more raters answered."
        )
    return tuple(notes)


def _checks(ratings: Sequence[Rating], *, attentive: bool) -> str:
    """Sentences on the raters who failed a check, and on those who are left out."""
    raters, failed = len({one.rater for one in ratings}), len(inattentive(ratings))
    said = f"A check shows the original unchanged; {failed or 'none'} of {raters} raters failed one"
    if not attentive:
        return f"{said}."
    return f"{said}, and {len(unchecked(ratings)) or 'none'} answered none: they are left out here."


def comparison_table(
    about: dict[str, Any], ratings: Sequence[Rating], asked: Sequence[Kind]
) -> Table:
    """All pairs of methods on the same originals; in bold what the test supports."""
    rows = []
    for kind in asked:
        for pair, one in differences(ratings, kind.name, about["methods"]).items():
            texts = (kind.title, " − ".join(pair), str(one.n))
            rows.append((*map(Cell, texts), _difference(one)))
    notes = (
        "First minus second method, by the same raters of the same originals; p is the paired "
        "t-test's over the originals, Holm-corrected over the pairs of a question. Bold: the "
        "interval excludes zero and p < .05.",
    )
    headers = ("question", "methods", "originals", "difference")
    return Table(f"Methods compared by people: {about['dataset']}", headers, tuple(rows), notes)


def _difference(one: Estimate) -> Cell:
    if not one.n:
        return Cell(ABSENT)
    return Cell(difference_text(one, one.p), bold=one.excludes_zero and one.p < 0.05)


def figure(about: dict[str, Any], ratings: Sequence[Rating], asked: Sequence[Kind]) -> Figure:
    """Mean and interval of each method, a panel for each question; the check hollow."""
    import matplotlib
    from matplotlib.figure import Figure

    names = [*about["methods"], UNCHANGED]
    style: dict[Any, Any] = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        size = (3.4 * len(asked) + 0.8, 0.32 * len(names) + 1.1)
        drawn = Figure(figsize=size, dpi=150, layout="constrained")
        panels = drawn.subplots(1, len(asked), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, asked, strict=True):
        for row, method in enumerate(names):
            rated = values(ratings, kind.name, method)
            if not rated:
                continue
            one = score(rated)
            fill = "white" if method == UNCHANGED else BLUE
            if not math.isnan(one.half_width):
                axes.plot([one.low, one.high], [row, row], color=BLUE, linewidth=1.6)
            axes.plot([one.value], [row], "o", ms=5.5, mec=BLUE, mfc=fill)
        axes.set_xlim(SCALE[0] - 0.5, SCALE[-1] + 0.5)  # an interval may end beyond the scale
        axes.set_xticks(SCALE)
        axes.set_title(kind.title, fontsize=8.5)
        axes.set_xlabel(f"1: {kind.low}; 5: {kind.high}")
        axes.grid(axis="x", color="0.88", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), [*names[:-1], f"{UNCHANGED} (check)"])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return drawn


def as_csv(ratings: Sequence[Rating]) -> str:
    """A line for each answer. Raters are numbers here: names stay in the study."""
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(field.name for field in fields(Rating))
    lines.writerows(astuple(one) for one in ratings)
    return buffer.getvalue()


Values = dict[str, dict[int, int]]
"""Original -> rater -> rating, of one kind and method."""


def values(ratings: Iterable[Rating], kind: str, method: str) -> Values:
    """The ratings of one kind and method; what was skipped is left out."""
    found: Values = {}
    for one in ratings:
        if (one.kind, one.method) == (kind, method) and one.value is not None:
            found.setdefault(one.key, {})[one.rater] = one.value
    return found


def score(rated: Values) -> Estimate:
    """Mean rating over originals, each the mean over its raters, with the 95% t-interval.

    No interval where all originals have the same mean: the sample says nothing of the spread then.
    """
    means = [fmean(one.values()) for one in rated.values()]
    found = mean_interval(means)
    return replace(found, low=math.nan, high=math.nan) if len(set(means)) == 1 else found


def difference(first: Values, second: Values) -> Estimate:
    """First minus second over the same originals and raters, with the paired t-test's p.

    A rater who did not rate both of an original does not count for it.
    """
    pairs: list[float] = []
    for key in first.keys() & second.keys():
        raters = first[key].keys() & second[key].keys()
        if raters:
            pairs.append(fmean(first[key][rater] - second[key][rater] for rater in raters))
    return paired_difference(pairs, [0.0] * len(pairs))


def differences(
    ratings: Sequence[Rating], kind: str, methods: Sequence[str]
) -> dict[tuple[str, str], Estimate]:
    """All pairs of methods; p is Holm's, over the pairs of this kind."""
    rated = {method: values(ratings, kind, method) for method in methods}
    pairs = list(combinations(methods, 2))
    found = [difference(rated[first], rated[second]) for first, second in pairs]
    adjusted = holm([one.p for one in found])
    return {pair: replace(one, p=p) for pair, one, p in zip(pairs, found, adjusted, strict=True)}


def alpha(ratings: Iterable[Rating], kind: str) -> tuple[float, int]:
    """Krippendorff's alpha for ordinal ratings of a kind, and the number of questions it rests on.

    1 is agreement, 0 is what chance gives (Krippendorff, Content Analysis, 2004, ch. 11). Only
    questions that at least two raters answered count, checks do not. NaN where there is none, or
    where all ratings are the same: agreement beyond chance is undefined then.

    Raises:
        ValueError: if `krippendorff` is not installed.
    """
    import numpy as np

    try:
        import krippendorff
    except ModuleNotFoundError as error:
        raise ValueError(
            "how far raters agree needs krippendorff: pip install 'sgid[human]'"
        ) from error

    asked: dict[tuple[str, str], dict[int, int]] = {}
    for one in ratings:
        if one.kind == kind and one.method != UNCHANGED and one.value is not None:
            asked.setdefault((one.method, one.key), {})[one.rater] = one.value
    shared = [one for one in asked.values() if len(one) > 1]
    if len({value for one in shared for value in one.values()}) < 2:
        return math.nan, len(shared)
    raters = sorted({rater for one in shared for rater in one})
    table = np.array([[one.get(rater, math.nan) for one in shared] for rater in raters])
    found = krippendorff.alpha(
        reliability_data=table, level_of_measurement="ordinal", value_domain=list(SCALE)
    )
    return float(found), len(shared)


def inattentive(ratings: Iterable[Rating]) -> set[int]:
    """The raters who failed a check: an original next to itself, or to copies of itself."""
    return {
        one.rater
        for one in ratings
        if one.method == UNCHANGED
        and one.value is not None
        and not KINDS[one.kind].passes(one.value)
    }


def unchecked(ratings: Iterable[Rating]) -> set[int]:
    """The raters who answered no check, so that nothing shows whether they look."""
    ratings = list(ratings)
    checked = {o.rater for o in ratings if o.method == UNCHANGED and o.value is not None}
    return {one.rater for one in ratings} - checked
