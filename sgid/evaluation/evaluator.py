"""What a set of generated images comes to, as a summary that JSON can say.

The same for the images of a run and for those of `evaluation.images`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sgid.data.dataset import Dataset
from sgid.evaluation.distribution import nearest
from sgid.evaluation.features import FOLDER, class_features, real_features
from sgid.evaluation.leakage import Limit
from sgid.evaluation.lpips import load_lpips
from sgid.evaluation.metrics import (
    SAMPLE,
    VERSION,
    ImageSetFeatures,
    Leakage,
    RealFeatures,
    held_out_limit,
    image_metrics,
    leakage,
)
from sgid.models.loader import Models
from sgid.reproducibility import fingerprint
from sgid.runtime.files import write_atomic
from sgid.stages.reference_classifier import ReferenceClassifier, predictions


@dataclass(frozen=True)
class Evaluator:
    """Against what, and by what, generated images are measured."""

    dataset: Dataset
    models: Models
    artifacts: Path
    judge: ReferenceClassifier | None
    lpips: bool

    @property
    def fingerprint(self) -> str:
        """The fingerprint of what all measures depend on but the images themselves."""
        data = self.dataset
        return fingerprint(
            [
                *("measures", VERSION, self.models.identity("scorer"), data.phrases),
                *(part.digest() for part in (data.train, data.validation, data.test)),
            ]
        )

    @property
    def name(self) -> str:
        """The fingerprint of that, and of the measures that are not always taken."""
        return fingerprint(
            [self.fingerprint, self.judge and self.judge.result.fingerprint, self.lpips]
        )

    def has(self, summary: dict[str, Any]) -> bool:
        """Whether a summary has all that is asked for, or more."""
        judge = summary.get("classifier") or {}
        return (
            summary.get("evaluator") == self.fingerprint
            and (self.judge is None or judge.get("fingerprint") == self.judge.result.fingerprint)
            and (summary["lpips"] or not self.lpips)
        )

    def summary(self, made: ImageSetFeatures) -> dict[str, Any]:
        """All measures, those of the originals beside them, and the pairs nearest to the test."""
        data, known = self.dataset, self._of_real_images()
        leaked, measured = self._measured(made, Limit(**known["limit"]))
        return {
            "measures": measured,
            "originals": known["originals"],
            "leakage": {
                "limit": leaked.limit.distance,
                "share": leaked.limit.share,
                "nearest": [
                    {
                        **pair,
                        "original": None
                        if made.source_index is None
                        else int(made.source_index[pair["row"]]),
                    }
                    for pair in leaked.worst()
                ],
            },
            "counts": {
                "images": len(made),
                "originals": len(data.train),
                "held_out": len(data.validation),
                "test": len(data.test),
                "at_most": SAMPLE,
            },
            "classifier": self.judge and {**self.judge.told, "held_out_top1": known["judge_top1"]},
            "lpips": self.lpips,
            "evaluator": self.fingerprint,
        }

    @cached_property
    def real(self) -> RealFeatures:
        return real_features(self.dataset, self.models, self.artifacts)

    def _of_real_images(self) -> dict[str, Any]:
        """What hangs on the real images alone, for all that is measured against them: kept."""
        path = self.artifacts / FOLDER / f"measures-{self.name}.json"
        if not path.is_file():
            train, least = self.dataset.train, held_out_limit(self.real)
            originals = ImageSetFeatures(
                self.real.train.vectors,
                self.real.train.pixels,
                lambda row: train[row].image,
                np.asarray(train.labels, np.int64),
            )
            found = {
                "originals": self._measured(originals, least)[1],
                "limit": asdict(least),
                "judge_top1": self._judge_top1(),
            }
            write_atomic(path, json.dumps(found, indent=2).encode())
        return json.loads(path.read_text(encoding="utf-8"))

    def _judge_top1(self) -> float | None:
        """In percent, of the judge on the held-out images: what its agreement is to be read by."""
        if self.judge is None:
            return None
        images, device = self.dataset.validation, self.models.device
        found = predictions(
            self.judge, lambda row: images[row].image, len(images), self.dataset, device
        )
        return 100 * float((found == np.asarray(images.labels)).mean())

    def _measured(
        self, made: ImageSetFeatures, least: Limit
    ) -> tuple[Leakage, dict[str, float | None]]:
        data, device, real = self.dataset, self.models.device, self.real
        leaked = leakage(made, real, least, lambda row: data.test[row].image)
        zero_shot = predicted = None
        if made.labels is not None:
            classes = class_features(data, self.models, self.artifacts)
            zero_shot = nearest(made.vectors, classes)[0][:, 0]
            if self.judge is not None:
                predicted = predictions(self.judge, made.image, len(made), data, device)
        measured = image_metrics(
            made,
            real,
            leaked,
            zero_shot=zero_shot,
            predicted=predicted,
            lpips=load_lpips(device) if self.lpips else None,
        )
        return leaked, measured
