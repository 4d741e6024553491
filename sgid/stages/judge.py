"""CLIP's judgement of generated images: a summary of each store, and what a filter lets through.

All of it lies beside the store that it is about, under the fingerprint of what it depends on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray

from sgid.config import Config
from sgid.data.datasets import Dataset
from sgid.evaluation.consistency import Judged
from sgid.evaluation.embeddings import stored_embeddings
from sgid.evaluation.stores import judge_store, summarise
from sgid.fingerprint import fingerprint
from sgid.models import Models
from sgid.progress import progress
from sgid.reporting.wording import call_text
from sgid.store import Store, replacing, write_atomic


@dataclass
class Judgement:
    """Of one complete store. What is there already is read, and the CLIP not even loaded."""

    store: Store
    config: Config
    dataset: Dataset
    models: Models

    def kept(self) -> NDArray[np.bool_] | None:
        """Which rows `filter` lets through; `None` without a filter.

        Raises:
            ValueError: if it lets none through.
        """
        if not self.config.filter:
            return None
        kept = instantiate(self.config.filter)(self._judged)
        if not kept.any():
            raise ValueError(
                f"the filter drops all {len(kept):,} images of {self.store.spec['method']} "
                f"({call_text(self.config.filter)}): loosen it, or take filter=none"
            )
        return kept

    def summary(self) -> dict[str, Any]:
        """Consistency, diversity and histograms of the whole store, and what the filter drops."""
        path = self.store.folder / f"evaluation-{self._mark}.json"
        if not path.is_file():
            summary = summarise(self.store, self._vectors, self._judged, self.dataset.train)
            write_atomic(path, json.dumps(summary, indent=2, ensure_ascii=False).encode())
        return {**json.loads(path.read_text()), "filter": self._dropped()}

    def _dropped(self) -> dict[str, Any] | None:
        kept = self.kept()
        if kept is None:
            return None
        labels = self.store.read(["label"])["label"].to_numpy()[~kept]
        names = self.dataset.class_names
        return {
            "name": call_text(self.config.filter),
            "kept": int(kept.sum()),
            "dropped": len(labels),
            "dropped_per_class": {
                name: int((labels == label).sum()) for label, name in enumerate(names)
            },
        }

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        name = fingerprint(self.models.identity("scorer"))
        with progress("judge", self.store.rows, "images") as bar:
            return stored_embeddings(
                self.store, lambda: self.models.scorer, name=name, on_images=bar.update
            )

    @cached_property
    def _judged(self) -> Judged:
        path = self.store.folder / f"judged-{self._mark}.npz"
        if not path.is_file():
            data = self.dataset
            judged = judge_store(
                self.store, self._vectors, data.train, data.phrases, self.models.scorer
            )
            with replacing(path) as partial, partial.open("wb") as stream:
                np.savez(stream, **asdict(judged))
        with np.load(path) as arrays:
            return Judged(**arrays)

    @property
    def _mark(self) -> str:
        return fingerprint([self.models.identity("scorer"), self.dataset.phrases])
