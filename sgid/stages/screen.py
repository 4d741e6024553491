"""`stage=screen`: look at a few images of each method before any is trained on.

They are drawn of some training images, each several times, into a small store of their own, and
rated without training: do they keep their label, and does one differ from the other?
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sgid.evaluation.distribution import pairwise_distance
from sgid.evaluation.features import class_features, image_features
from sgid.evaluation.store_summary import labels, source_index, spread
from sgid.reproducibility import fingerprint
from sgid.runtime.files import write_atomic
from sgid.stages.augment import Augmentation
from sgid.stages.store_evaluation import StoreEvaluation

if TYPE_CHECKING:
    from sgid.stages.run import Run

SCREEN = "screen.json"
"""The file of a screening, in its own folder of the results."""

REPEATS = 2
"""Images of each original: the fewest of which diversity can be told."""


@dataclass(frozen=True)
class Screening:
    """Ratings of a few images of one method.

    Args:
        consistency: share of the images whose label is CLIP's first guess among all classes.
        diversity: mean CLIP distance, 1 - cosine, between images of one original.
        reference: `consistency` of the real originals: how far CLIP can be trusted here.
        images: how many there are.
    """

    method: str
    consistency: float
    diversity: float
    reference: float
    images: int

    @property
    def score(self) -> float:
        """Label consistency times diversity: 0 for copies, and for what has lost its label."""
        return self.consistency * self.diversity


def screen(run: Run, console: Console) -> Path | None:
    """Rate the methods of a run; the folder with their ratings, `None` where there are none.

    A method that learns from the training images, or needs more of each class than there are
    here, is left out: a few images say nothing about it.
    """
    train = run.dataset.train
    chosen = train.select(sorted(spread(train, run.config.advise.screened // REPEATS)))
    few = replace(run.dataset, train=chosen)
    ratings = []
    for one in run.augmentations:
        method = one.method
        if method.prepare is not None or method.fewest > 1 or method.budget is not None:
            console.print(f"{method.name}: not screened", highlight=False)
            continue
        settings = replace(one.settings, expansion=REPEATS)
        small = Augmentation(method, few, run.models, settings)
        if not small.complete:
            _ = run.models.generator  # its loading is no part of the rate
            small.make()
        evaluation = StoreEvaluation(
            small.generated, few, run.models, run.artifacts, run.filter, run.evaluator
        )
        rating = rate(evaluation)
        if rating is not None:
            ratings.append(rating)
            console.print(
                f"{method.name}: {rating.images} images, {100 * rating.consistency:.0f} % keep "
                f"their label, diversity {rating.diversity:.3f}, score {rating.score:.3f}",
                highlight=False,
            )
    if not ratings:
        return None
    told = [{**vars(one), "score": one.score} for one in ratings]
    folder = run.results / "screened" / fingerprint([told, run.augmentations[0].settings.seed])
    write_atomic(folder / SCREEN, json.dumps(told, indent=2).encode())
    return folder


def rate(evaluation: StoreEvaluation) -> Screening | None:
    """The rating of a small store; `None` where no two images of one original are kept."""
    store, data, models = evaluation.store, evaluation.dataset, evaluation.models
    scores, kept = evaluation.scores, evaluation.kept()
    rows = slice(None) if kept is None else kept
    sources = source_index(store, data.train)[rows]
    diversity = pairwise_distance(evaluation.vectors[rows], sources)
    if diversity is None:
        return None
    keeps = (scores.nearest == labels(store))[rows]
    names = class_features(data, models, evaluation.artifacts)
    real = image_features(data.train, models, evaluation.artifacts).vectors @ names.T
    reference = (real.argmax(1) == data.train.labels).mean()
    method: Any = store.spec["method"]
    return Screening(method, float(keeps.mean()), diversity, float(reference), len(keeps))
