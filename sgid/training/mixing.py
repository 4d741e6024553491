"""Training sets of originals and generated images."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from sgid.data.image_set import ImageSet
from sgid.data.pixel_cache import Decoded
from sgid.records import Use


@runtime_checkable
class BatchTransform(Protocol):
    """A transform that is faster on many images than image by image."""

    def batch(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """uint8 (H, W, 3) each -> uint8 (B, 3, size, size)."""
        ...


class Mixed(Dataset):
    """Training set of originals and the images generated from them.

    Images to `concatenate` make one set with the originals. Those that `replace` leave the length:
    each time that an original is asked for, it is swapped with a `probability` for an image
    generated from it, or for any.

    Args:
        generated: sets whose keys are `<key of the original>#<repeat>`.
        uses: how each of them is used.
        transform: from a PIL image to a uint8 tensor (3, H, W); a `BatchTransform` also does many.
        folder: where `keep` puts decoded images; `None`: they are decoded each time.
    """

    def __init__(
        self,
        real: ImageSet,
        generated: Sequence[ImageSet] = (),
        *,
        transform: Callable[[Image], Tensor],
        uses: Sequence[Use] | None = None,
        folder: Path | None = None,
    ) -> None:
        uses = [Use()] * len(generated) if uses is None else uses
        pairs = list(zip(generated, uses, strict=True))
        joined = [pair for pair in pairs if pair[1].how == "concatenate"]
        swapped = [pair for pair in pairs if pair[1].how == "replace"]
        self.sources = [real, *(images for images, _ in [*joined, *swapped])]
        self.weights = [1.0, *(_weight(use, images, real) for images, use in [*joined, *swapped])]
        self.soft = any(images.label_weights is not None for images in self.sources)
        self.pictures = [Decoded(images, folder) for images in self.sources]
        self.ends = list(accumulate(map(len, self.sources)))
        self.length = self.ends[len(joined)]
        self.originals = len(real)
        self.swaps: list[_Swap] = []
        first = self.length
        for use, group in groupby(swapped, key=lambda pair: pair[1]):
            sets = [images for images, _ in group]
            if use.probability:
                self.swaps.append(_Swap(real, sets, use, first=first))
            first += sum(map(len, sets))
        self.transform = transform
        self.progress = 0.0  # the share of the training that is done, set for each batch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        source, index = self._drawn(position)
        return self.transform(self.pictures[source][index]), self.sources[source].labels[index]

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, ...]:
        """Images, uint8 (B, 3, H, W), and their labels (B,), or shares of the classes (B, C).

        Where some loss weight is not 1, the weights (B,) come third; over the set, their mean is 1.
        """
        drawn = [self._drawn(position) for position in positions]
        rest: tuple[Tensor, ...] = (self._labels(drawn),)
        if any(weight != 1 for weight in self.weights):
            weights = torch.tensor([self.weights[source] for source, _ in drawn])
            rest += (weights / self._mean_weight(),)
        if isinstance(self.transform, BatchTransform):
            pixels = [self.pictures[source].pixels(index) for source, index in drawn]
            return self.transform.batch(pixels), *rest
        pictures = (self.pictures[source][index] for source, index in drawn)
        return torch.stack([self.transform(picture) for picture in pictures]), *rest

    def _mean_weight(self) -> float:
        """The expected loss weight of an image of a batch."""
        total = float(self.originals)
        for swap in reversed(self.swaps):
            chance = swap.probability(self.progress)
            total = chance * swap.use.weight * self.originals + (1 - chance) * total
        sizes = map(len, self.sources[1:])
        places = range(self.originals, self.length)  # of what is concatenated
        for weight, end, size in zip(self.weights[1:], self.ends[1:], sizes, strict=True):
            if end - 1 in places:
                total += weight * size
        return total / self.length

    def _labels(self, drawn: Sequence[tuple[int, int]]) -> Tensor:
        labels = torch.tensor([self.sources[source].labels[index] for source, index in drawn])
        if not self.soft:
            return labels
        shares = torch.nn.functional.one_hot(labels, len(self.sources[0].class_names)).float()
        for share, (source, index) in zip(shares, drawn, strict=True):
            if (weights := self.sources[source].label_weights) is not None:
                share.zero_()
                for label, weight in weights[index].items():
                    share[label] = weight
        return shares

    def _drawn(self, position: int) -> tuple[int, int]:
        """The source and the index in it of what is given for `position`."""
        if position < self.originals:
            for swap in self.swaps:
                if (other := swap.draw(position, self.progress)) is not None:
                    position = other
                    break
        source = bisect_right(self.ends, position)
        return source, position - (self.ends[source - 1] if source else 0)

    def keep(self, limit: float) -> int:
        """Cache decoded images, up to `limit` bytes; returns the bytes used."""
        before = limit
        for pictures in self.pictures:
            pictures.keep(limit)
            limit -= pictures.bytes_kept
        return int(before - limit)

    @property
    def bytes_kept(self) -> int:
        return sum(pictures.bytes_kept for pictures in self.pictures)


def _weight(use: Use, images: ImageSet, real: ImageSet) -> float:
    if use.together is None:
        return float(use.weight)
    return use.together * len(real) / max(1, len(images))


class _Swap:
    """Draws of a generated image in the place of an original.

    Positions are those in the set of all images. The positions of what was generated from each
    original are one array, sorted by original, since there may be millions of them.
    """

    def __init__(
        self, real: ImageSet, generated: Sequence[ImageSet], use: Use, *, first: int
    ) -> None:
        count = sum(map(len, generated))
        self.use = use
        self.positions, self.starts = np.arange(count) + first, None
        order = np.arange(count)
        if use.whose == "own":
            number = {key: index for index, key in enumerate(real.keys)}
            keys = (key for images in generated for key in images.keys)
            original = np.fromiter(
                (number.get(key.rpartition("#")[0], -1) for key in keys), np.int64, count
            )
            order = np.argsort(original, kind="stable")
            self.starts = np.searchsorted(original[order], np.arange(len(real) + 1))
            self.positions = order + first
        self.scores = _numbers(generated, "score", order) if use.scored else None
        self.strengths = _numbers(generated, "strength", order) if use.curriculum else None

    def probability(self, progress: float) -> float:
        """The chance that an original is swapped, at a share of the training."""
        over = self.use.curriculum and progress >= self.use.curriculum
        return 0.0 if over else self.use.probability

    def draw(self, original: int, progress: float) -> int | None:
        """The position of an image, or `None` to leave the original."""
        if not (chance := self.probability(progress)) or torch.rand(()) >= chance:
            return None
        some = slice(None)
        if self.starts is not None:
            some = slice(int(self.starts[original]), int(self.starts[original + 1]))
        among = self.positions[some]
        if self.strengths is not None and len(among):
            among = among[_level(self.strengths[some], progress / self.use.curriculum)]
        if not len(among):
            return None
        if self.scores is None:
            return int(among[int(torch.randint(len(among), ()))])
        ends = self.scores[some].cumsum()
        if ends[-1] <= 0:
            return None
        return int(among[np.searchsorted(ends, float(torch.rand(())) * ends[-1], side="right")])


def _numbers(generated: Sequence[ImageSet], name: str, order: np.ndarray) -> np.ndarray:
    """A column of all sets, in an order; a set that has none counts as all 1."""
    columns = [np.asarray(one.numbers.get(name, np.ones(len(one)))) for one in generated]
    return np.concatenate(columns)[order]


def _level(strengths: np.ndarray, share: float) -> np.ndarray:
    """Mask of the images of one strength: of the highest at a `share` of 0, the lowest before 1."""
    levels = np.unique(strengths)[::-1]
    return strengths == levels[int(share * len(levels))]
