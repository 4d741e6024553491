"""What a set of generated images comes to, as a summary that JSON can say.

The same for the images of a run and for those of `evaluation.images`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgid.config import Config, EvaluationConfig
from sgid.data.datasets import Dataset
from sgid.evaluation import measures
from sgid.evaluation.measures import Leakage, Made, Real, leakage, measure
from sgid.evaluation.neighbours import nearest
from sgid.evaluation.perceptual import load_lpips, weights_file
from sgid.fingerprint import fingerprint
from sgid.models import Models
from sgid.stages.classifier import Judge, find_judge, predictions
from sgid.stages.real import class_vectors, real_images


@dataclass(frozen=True)
class Measuring:
    """Against what, and by what, generated images are measured."""

    dataset: Dataset
    models: Models
    artifacts: Path
    judge: Judge | None
    lpips: bool

    @property
    def mark(self) -> str:
        """The fingerprint of all that measures depend on but the images themselves."""
        data = self.dataset
        return fingerprint(
            [
                *("measures", measures.VERSION, self.models.identity("scorer"), data.phrases),
                *(part.digest() for part in (data.train, data.validation, data.test)),
                *(self.judge and self.judge.result.fingerprint, self.lpips),
            ]
        )

    def summary(self, made: Made, real: Real) -> dict[str, Any]:
        """All measures, those of the originals beside them, and the pairs nearest to the test."""
        data = self.dataset
        leaked, measured = self._measured(made, real)
        labels = np.asarray(data.train.labels, np.int64)
        originals = Made(
            real.train.vectors, real.train.pixels, lambda row: data.train[row].image, labels
        )
        return {
            "measures": measured,
            "originals": self._measured(originals, real)[1],
            "leakage": {
                "limit": leaked.limit.distance,
                "share": leaked.limit.share,
                "nearest": [
                    {
                        **pair,
                        "near": bool(leaked.near[pair["row"]]),
                        "same": bool(leaked.same[pair["row"]]),
                        "original": None if made.origin is None else int(made.origin[pair["row"]]),
                    }
                    for pair in leaked.worst()
                ],
            },
            "counts": {
                "images": len(made),
                "originals": len(data.train),
                "held_out": len(data.validation),
                "test": len(data.test),
            },
            "classifier": self.judge and self.judge.told,
            "mark": self.mark,
        }

    def real(self) -> Real:
        return real_images(self.dataset, self.models, self.artifacts)

    def _measured(self, made: Made, real: Real) -> tuple[Leakage, dict[str, float | None]]:
        data, device = self.dataset, self.models.device
        leaked = leakage(made, real, lambda row: data.test[row].image)
        zero_shot = predicted = None
        if made.labels is not None:
            classes = class_vectors(data, self.models, self.artifacts)
            zero_shot = nearest(made.vectors, classes)[0][:, 0]
            predicted = self.judge and predictions(self.judge, made, data, device)
        measured = measure(
            made,
            real,
            leaked,
            zero_shot=zero_shot,
            predicted=predicted,
            lpips=load_lpips(device) if self.lpips else None,
        )
        return leaked, measured


def measuring(config: Config, dataset: Dataset, models: Models) -> Measuring:
    """What the section `evaluation` asks for.

    Raises:
        ValueError: if its classifier cannot judge these classes.
    """
    asked = config.evaluation
    judge = find_judge(asked.classifier, dataset) if asked.classifier else None
    return Measuring(dataset, models, Path(config.paths.artifacts), judge, wants_lpips(asked))


def wants_lpips(asked: EvaluationConfig) -> bool:
    """Whether LPIPS is measured: `auto` is where its weights are."""
    return weights_file().is_file() if asked.lpips == "auto" else bool(asked.lpips)
