"""Candidates ruled out before any training, by a few images of each (`stage=screen`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sgid.advise.candidates import Candidate
from sgid.stages.screen import Screening

TRUSTED = 0.5
"""Share of the real images that CLIP must give their label, for its verdict to rule anything out.
"""

Ratings = Sequence[Screening]


def score(ratings: Ratings) -> float:
    """Mean over the methods of a candidate of label consistency times diversity."""
    return float(np.mean([rating.score for rating in ratings]))


def rule_out(rated: Mapping[Candidate, Ratings], least: float) -> dict[Candidate, str]:
    """Candidates with the reason why they are not trained.

    Scores are compared within a method alone, as settings of it: text-to-image is always more
    diverse than image-to-image, and not always better. Of each method what scores below `least`
    of its best is out, and so is what keeps its label less than half as often as real images do.
    Nothing is where CLIP does not know the real images. One is always left, that which keeps its
    label most often: what it adds to no images at all is the answer.
    """
    best: dict[tuple[str, ...], float] = {}
    for ratings in rated.values():
        best[_methods(ratings)] = max(best.get(_methods(ratings), 0.0), score(ratings))
    out: dict[Candidate, str] = {}
    for candidate, ratings in rated.items():
        reference = min(rating.reference for rating in ratings)
        consistency = _consistency(ratings)
        own, most = score(ratings), best[_methods(ratings)]
        if reference < TRUSTED:
            continue
        if own < least * most:
            out[candidate] = f"screened out: score {own:.3f}, of this method's best {most:.3f}"
        elif consistency < reference / 2:
            out[candidate] = (
                f"screened out: {100 * consistency:.0f} % of its images keep their label, of real "
                f"ones {100 * reference:.0f} %"
            )
    if rated and len(out) == len(rated):
        del out[max(out, key=lambda one: _consistency(rated[one]))]
    return out


def _consistency(ratings: Ratings) -> float:
    return min(rating.consistency for rating in ratings)


def _methods(ratings: Ratings) -> tuple[str, ...]:
    return tuple(rating.method for rating in ratings)
