"""Evaluator: all metrics of a set of generated images against a dataset, as a JSON-ready summary.

It serves the images of a run and those of `evaluation.images` alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

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


class LabelClassifier(Protocol):
    """A classifier trained on real images alone, which predicts the class of generated ones."""

    @property
    def fingerprint(self) -> str:
        """Identifies the training that it comes from."""
        ...

    @property
    def summary(self) -> dict[str, Any]:
        """Its origin and test accuracy for reports, in JSON's terms, `fingerprint` among them."""
        ...

    def predictions(self, image: Callable[[int], Image], count: int) -> NDArray[np.int64]:
        """(count,) predicted classes of the images `image(0)` to `image(count - 1)`."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """Metrics of generated images against the real images of `dataset`.

    `classifier` adds the agreement of its predictions with the labels, `lpips` LPIPS; what depends
    on the real images alone is cached below `artifacts`.
    """

    dataset: Dataset
    models: Models
    artifacts: Path
    classifier: LabelClassifier | None
    lpips: bool

    @property
    def fingerprint(self) -> str:
        """Identifies all inputs of the metrics but the images themselves."""
        data = self.dataset
        return fingerprint(
            [
                *("measures", VERSION, self.models.identity("scorer"), data.phrases),
                *(part.digest() for part in (data.train, data.validation, data.test)),
            ]
        )

    @property
    def name(self) -> str:
        """Fingerprint of these inputs and of the optional metrics that are computed."""
        classifier = self.classifier and self.classifier.fingerprint
        return fingerprint([self.fingerprint, classifier, self.lpips])

    def covers(self, summary: dict[str, Any]) -> bool:
        """Whether a summary has every metric that is asked for; it may have more."""
        classifier = summary.get("classifier") or {}
        return (
            summary.get("evaluator") == self.fingerprint
            and (
                self.classifier is None
                or classifier.get("fingerprint") == self.classifier.fingerprint
            )
            and (summary["lpips"] or not self.lpips)
        )

    def summary(self, images: ImageSetFeatures) -> dict[str, Any]:
        """All metrics, those of the originals, and the pairs nearest to the test images."""
        data, reference = self.dataset, self._of_real_images()
        leaked, metrics = self._metrics(images, Limit(**reference["limit"]))
        return {
            "measures": metrics,
            "originals": reference["originals"],
            "leakage": {
                "limit": leaked.limit.distance,
                "share": leaked.limit.share,
                "nearest": [
                    {
                        **pair,
                        "original": None
                        if images.source_index is None
                        else int(images.source_index[pair["row"]]),
                    }
                    for pair in leaked.worst()
                ],
            },
            "counts": {
                "images": len(images),
                "originals": len(data.train),
                "held_out": len(data.validation),
                "test": len(data.test),
                "at_most": SAMPLE,
            },
            "classifier": self.classifier
            and {**self.classifier.summary, "held_out_top1": reference["classifier_top1"]},
            "lpips": self.lpips,
            "evaluator": self.fingerprint,
        }

    @cached_property
    def real(self) -> RealFeatures:
        return real_features(self.dataset, self.models, self.artifacts)

    def _of_real_images(self) -> dict[str, Any]:
        """Metrics of the real images, computed once for all that is compared with them."""
        path = self.artifacts / FOLDER / f"real-{self.name}.json"
        if not path.is_file():
            train, least = self.dataset.train, held_out_limit(self.real)
            originals = ImageSetFeatures(
                self.real.train.vectors,
                self.real.train.pixels,
                lambda row: train[row].image,
                np.asarray(train.labels, np.int64),
            )
            reference = {
                "originals": self._metrics(originals, least)[1],
                "limit": asdict(least),
                "classifier_top1": self._classifier_top1(),
            }
            write_atomic(path, json.dumps(reference, indent=2).encode())
        return json.loads(path.read_text(encoding="utf-8"))

    def _classifier_top1(self) -> float | None:
        """Top-1 of the classifier on the held-out images, in percent: the best to be expected."""
        if self.classifier is None:
            return None
        images = self.dataset.validation
        predicted = self.classifier.predictions(lambda row: images[row].image, len(images))
        return 100 * float((predicted == np.asarray(images.labels)).mean())

    def _metrics(
        self, images: ImageSetFeatures, least: Limit
    ) -> tuple[Leakage, dict[str, float | None]]:
        data, device, real = self.dataset, self.models.device, self.real
        leaked = leakage(images, real, least, lambda row: data.test[row].image)
        zero_shot = predicted = None
        if images.labels is not None:
            classes = class_features(data, self.models, self.artifacts)
            zero_shot = nearest(images.vectors, classes)[0][:, 0]
            if self.classifier is not None:
                predicted = self.classifier.predictions(images.image, len(images))
        metrics = image_metrics(
            images,
            real,
            leaked,
            zero_shot=zero_shot,
            predicted=predicted,
            lpips=load_lpips(device) if self.lpips else None,
        )
        return leaked, metrics
