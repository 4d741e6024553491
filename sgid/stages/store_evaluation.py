"""Evaluation of generated stores: a summary of each, and the images that a filter keeps.

It is cached in the folder of its store, under the fingerprint of what it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgid.data.dataset import Dataset
from sgid.evaluation.evaluator import Evaluator
from sgid.evaluation.features import (
    class_features,
    image_features,
    stored_embeddings,
    stored_thumbnails,
)
from sgid.evaluation.filters import ClipScores
from sgid.evaluation.metrics import ImageSetFeatures
from sgid.evaluation.store_summary import labels, score_store, source_index, summarise
from sgid.models.loader import Models
from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path, write_atomic
from sgid.store.reviews import rejected_rows
from sgid.store.store import Store
from sgid.store.tables import accepted, stored_images

CLIP_SCORES = "clip_scores-*.npz"
"""Files in a store with `ClipScores` of its images, one for each scorer and class names."""

OF_ALL = ("cosine", "label_agreement", "diversity")
"""The measures that a result also gives for the images of all its methods together."""


@dataclass(frozen=True)
class Filter:
    """A filter of generated images, and its call as text."""

    keep: Callable[..., NDArray[np.bool_]]
    text: str

    @property
    def reads_reviews(self) -> bool:
        """Whether it depends on what people rejected."""
        return "rejected" in signature(self.keep).parameters

    def mask(
        self, scores: ClipScores, store: Store, rejected: Collection[tuple[str, int]]
    ) -> NDArray[np.bool_]:
        """(rows,): whether it keeps each image of the store, of which people `rejected` some."""
        if not self.reads_reviews:
            return self.keep(scores)
        return self.keep(scores, rejected=rejected_rows(store, rejected))


@dataclass
class StoreEvaluation:
    """Evaluation of one complete store; what is cached is read, without loading the CLIP.

    `rejected` are the images, by key and repeat, that people rejected when the run began.
    """

    store: Store
    dataset: Dataset
    models: Models
    artifacts: Path
    filter: Filter | None
    evaluator: Evaluator
    rejected: Collection[tuple[str, int]] = ()

    def kept(self) -> NDArray[np.bool_] | None:
        """Mask of the rows that the method accepted and the filter keeps; `None` without either.

        Raises:
            ValueError: if none is left.
        """
        own, name = accepted(self.store), self.store.spec["method"]
        if own is not None and not own.any():
            raise ValueError(
                f"aug={name} accepts none of its {len(own):,} images: change aug.{name}.select, "
                "or take another models.generator"
            )
        if self.filter is None:
            return own
        kept = self.filter.mask(self.scores, self.store, self.rejected)
        kept = kept if own is None else kept & own
        if not kept.any():
            raise ValueError(
                f"the filter drops all {len(kept):,} images of {name} "
                f"({self.filter.text}): loosen it, or take filter=none"
            )
        return kept

    def measured(self, summary: dict[str, Any]) -> bool:
        """Whether a summary has all that is asked for now, or more."""
        return self.evaluator.covers(summary)

    def summary(self, before: dict[str, Any] | None = None) -> dict[str, Any]:
        """All that is measured of the whole store, and what the filter drops.

        `before` is an older summary, which is taken if it has what is asked for; so is what lies
        beside the store.
        """
        told = before if before is not None and self.measured(before) else self._kept_summary()
        if told is None:
            measured = self.evaluator.summary(self._made())
            told = {
                **summarise(self.store, self.scores, self.dataset.class_names),
                **{name: measured["measures"][name] for name in OF_ALL},
                **measured,
            }
            write_atomic(self._path, json.dumps(told, indent=2, ensure_ascii=False).encode())
        return {**told, "filter": self._dropped()}

    @property
    def _path(self) -> Path:
        return self.store.folder / f"evaluation-{self.evaluator.name}.json"

    def _kept_summary(self) -> dict[str, Any] | None:
        """A summary beside the store: of just what is asked for, else one that has more."""
        others = sorted(self.store.folder.glob("evaluation-*.json"))
        for path in (self._path, *others):
            if path.is_file():
                summary = json.loads(path.read_text(encoding="utf-8"))
                if self.measured(summary):
                    return summary
        return None

    def _made(self) -> ImageSetFeatures:
        images = stored_images(self.store, self.dataset.class_names)
        return ImageSetFeatures(
            vectors=self.vectors,
            pixels=stored_thumbnails(self.store),
            image=lambda row: images[row].image,
            labels=labels(self.store),
            source_index=source_index(self.store, self.dataset.train),
        )

    def _dropped(self) -> dict[str, Any] | None:
        kept = self.kept()
        if kept is None:
            return None
        lost = labels(self.store)[~kept]
        names = self.dataset.class_names
        texts = [self.filter.text] if self.filter else []
        if "attempts" in self.store.columns:
            drawn = sum(
                table["attempts"].to_numpy().sum() for table in self.store.tables(["attempts"])
            )
            texts.insert(0, f"the method's own selection of {int(drawn):,} images drawn")
        return {
            "name": " and ".join(texts),
            "kept": int(kept.sum()),
            "dropped": len(lost),
            "dropped_per_class": {
                name: int((lost == label).sum()) for label, name in enumerate(names)
            },
        }

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """(rows, D): CLIP embeddings of the images."""
        name = fingerprint(self.models.identity("scorer"))
        return stored_embeddings(self.store, lambda: self.models.scorer, name=name)

    @cached_property
    def scores(self) -> ClipScores:
        mark = fingerprint([self.models.identity("scorer"), self.dataset.phrases])
        path = self.store.folder / CLIP_SCORES.replace("*", mark)
        if not path.is_file():
            train = self.dataset.train
            artifacts = self.artifacts
            originals = image_features(train, self.models, artifacts).vectors
            classes = class_features(self.dataset, self.models, artifacts)
            judged = score_store(self.store, self.vectors, train, originals, classes)
            with atomic_path(path) as partial, partial.open("wb") as stream:
                np.savez(stream, **asdict(judged))
        with np.load(path) as arrays:
            return ClipScores(**arrays)
