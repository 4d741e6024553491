"""The images of a store in the order in which they are reviewed, and the verdicts on them.

Class by class, and in a class the worst first: before the images that CLIP takes for their own
class those that it takes for another, and among them those that are least like their originals.
An original's images stay together, at the place of the worst of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.evaluation.evaluator import Evaluator
from sgid.evaluation.filters import ClipScores
from sgid.models.loader import Models
from sgid.stages.evaluate_images import open_store
from sgid.stages.store_evaluation import StoreEvaluation
from sgid.store.reviews import VERDICTS, Review, Verdicts, append_reviews, now
from sgid.store.store import Store
from sgid.store.tables import accepted

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = 40
"""Images of a page, at most, unless one original has more."""


@dataclass(frozen=True)
class Group:
    """An original, by its index, and the rows of its images, the worst first."""

    source: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Progress:
    """Counts of a class's images: all, accepted and rejected."""

    images: int
    accepted: int
    rejected: int

    @property
    def left(self) -> int:
        return self.images - self.accepted - self.rejected


@final
class Queue:
    """The pages of a review, and its verdicts on the disk; images that the method's own selection
    refused are on no page.

    Args:
        store: a complete store of generated images.
        images: those of its rows.
        originals: the images that it was made of, and
        source_index: (rows,), the index of each row's among them.
        scores: CLIP's of each row.
    """

    def __init__(
        self,
        store: Store,
        images: ImageSet,
        originals: ImageSet,
        source_index: NDArray[np.int64],
        scores: ClipScores,
    ) -> None:
        self.store = store
        self.images = images
        self.originals = originals
        self.scores = scores
        self.class_names = images.class_names
        passed = accepted(store)
        self._shown = np.ones(store.rows, bool) if passed is None else passed
        self.pages = _pages(scores, source_index, np.flatnonzero(self._shown))
        self._verdicts = Verdicts(store.folder)
        self._lock = Lock()
        table = store.read(["key", "repeat", "caption", "width", "height"])
        self.names = list(
            zip(*(table[name].to_pylist() for name in ("key", "repeat")), strict=True)
        )
        self.captions = table["caption"]
        self.sizes = np.stack([table[side].to_numpy() for side in ("width", "height")], axis=1)
        self._row_of = {name: row for row, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def original(self, index: int) -> Image:
        return self.originals[index].image

    def image(self, row: int) -> Image:
        return self.images[row].image

    def seen_as(self, row: int) -> str | None:
        """The class that CLIP takes an image for, where it is not the image's own."""
        nearest = int(self.scores.nearest[row])
        return None if nearest == self.scores.labels[row] else self.class_names[nearest]

    def verdicts(self) -> NDArray[np.int8]:
        """(rows,): the index in `VERDICTS` of the verdict on each image, -1 for none, as of now."""
        found = np.full(len(self), -1, np.int8)
        with self._lock:
            for name, verdict in self._verdicts.refresh().items():
                if (row := self._row_of.get(name)) is not None:
                    found[row] = VERDICTS.index(verdict)
        return found

    def decide(self, rows: Sequence[int], verdict: str | None, who: str) -> None:
        """Write a verdict on images; it is on the disk when this returns. `None` takes it back."""
        when = now()
        names = [self.names[row] for row in rows]
        reviews = [Review(key, repeat, verdict, who, when) for key, repeat in names]
        with self._lock:
            append_reviews(self.store.folder, reviews)

    def progress(self) -> dict[int, Progress]:
        """Counts of each class that has images, by label."""
        labels, verdicts = self.scores.labels[self._shown], self.verdicts()[self._shown]
        among = [labels, *(labels[verdicts == one] for one in range(len(VERDICTS)))]
        counts = np.stack([np.bincount(some, minlength=max(self.pages) + 1) for some in among], 1)
        return {label: Progress(*counts[label].tolist()) for label in self.pages}

    def waiting(self, after: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """Label and number of the first page with an image that has no verdict.

        Those behind the page `after` come first, then those before it; it is not one of them.
        """
        verdicts = self.verdicts()
        places = list(self._places())
        if after is not None:
            at = places.index(after)
            places = [*places[at + 1 :], *places[:at]]
        for label, number in places:
            rows = [row for group in self.pages[label][number] for row in group.rows]
            if (verdicts[rows] < 0).any():
                return label, number
        return None

    @cached_property
    def content(self) -> str:
        """Identifies the images, for what a browser keeps of them."""
        return self.store.content

    def _places(self) -> Iterator[tuple[int, int]]:
        return (
            (label, number) for label, pages in self.pages.items() for number in range(len(pages))
        )


def _pages(
    scores: ClipScores, source_index: NDArray[np.int64], shown: NDArray[np.int64]
) -> dict[int, list[list[Group]]]:
    """The pages of each class, by label, of the rows that are `shown`."""
    labels, cosines = scores.labels[shown], scores.cosines[shown]
    order = shown[np.lexsort((shown, cosines, scores.nearest[shown] == labels, labels))]
    grouped: dict[int, dict[int, list[int]]] = {}
    columns = (order, scores.labels[order], source_index[order])
    for row, label, source in zip(*(column.tolist() for column in columns), strict=True):
        grouped.setdefault(label, {}).setdefault(source, []).append(row)
    pages: dict[int, list[list[Group]]] = {}
    for label, groups in grouped.items():
        together: list[Group] = []
        pages[label] = []
        for source, rows in groups.items():
            if together and sum(len(one.rows) for one in together) + len(rows) > PAGE:
                pages[label].append(together)
                together = []
            together.append(Group(source, tuple(rows)))
        pages[label].append(together)
    return pages


def open_queue(
    path: Path, dataset: Dataset, models: Models, evaluator: Evaluator, *, artifacts: Path
) -> Queue:
    """The review of the store in `path`, which was made of the training images of `dataset`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is no complete store, or was made of other images.
    """
    path = path.expanduser()
    option = "store"
    if not path.is_dir():
        raise FileNotFoundError(
            f"{option}={path} is not a folder. It takes the store of a run's generated images, "
            "artifacts/generated/<fingerprint>; stage=augment makes it"
        )
    if not (path / "manifest.json").is_file():
        raise ValueError(
            f"{option}={path} is no complete store: stage=augment, with the options of its run, "
            "goes on with it"
        )
    given = open_store(path, dataset, option=option)
    if given.store is None or given.source_index is None:
        raise ValueError(
            f"{option}={path}: {' '.join(given.notes)} Add the options of the run that made it: "
            "dataset, dataset.root, dataset.shots, seed"
        )
    evaluation = StoreEvaluation(given.store, dataset, models, artifacts, None, evaluator)
    evaluation.kept()  # says so if the method's own selection refused all of them
    scores = evaluation.scores
    return Queue(given.store, given.images, dataset.train, given.source_index, scores)
