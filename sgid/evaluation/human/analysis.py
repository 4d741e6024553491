"""What ratings say of methods: means, paired differences, and how far raters agree.

The originals are the sample. Of each, what the raters say counts once, as their mean, so that many
ratings of one original are not taken for many originals. An interval then covers another draw of
originals, judged by the same raters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from sgid.evaluation.human.questions import KINDS, SCALE, UNCHANGED
from sgid.evaluation.human.records import Rating
from sgid.evaluation.statistics import Estimate, holm, mean_interval, paired_difference

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
    where all ratings are the same: agreement beyond chance cannot be told then.

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
    """The raters who failed a check: an original beside itself, or beside copies of itself."""
    return {
        one.rater
        for one in ratings
        if one.method == UNCHANGED
        and one.value is not None
        and not KINDS[one.kind].passes(one.value)
    }


def unchecked(ratings: Iterable[Rating]) -> set[int]:
    """The raters who answered no check: whether they look cannot be told."""
    ratings = list(ratings)
    checked = {o.rater for o in ratings if o.method == UNCHANGED and o.value is not None}
    return {one.rater for one in ratings} - checked
