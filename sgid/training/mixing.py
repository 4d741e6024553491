"""Training sets of originals and generated images."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from sgid.data.image_set import ImageSet
from sgid.data.pixel_cache import Decoded

HOW = ("concatenate", "replace")


@runtime_checkable
class BatchTransform(Protocol):
    """A transform that is faster on many images than image by image."""

    def batch(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """uint8 (H, W, 3) each -> uint8 (B, 3, size, size)."""
        ...


class Mixed(Dataset):
    """Training set of originals and the images generated from them.

    `concatenate` makes one set of both. `replace` keeps the originals' length and, each time that
    one is asked for, swaps it with `probability` for one of the images generated from it.

    Args:
        generated: sets whose keys are `<key of the original>#<repeat>`.
        transform: from a PIL image to a uint8 tensor (3, H, W); a `BatchTransform` also does many.
        folder: where `keep` puts decoded images; `None`: they are decoded each time.
    """

    def __init__(
        self,
        real: ImageSet,
        generated: Sequence[ImageSet] = (),
        *,
        transform: Callable[[Image], Tensor],
        how: str = "concatenate",
        probability: float = 0.5,
        folder: Path | None = None,
    ) -> None:
        if how not in HOW:
            raise ValueError(f"mix.how={how}: unknown; one of {', '.join(HOW)}")
        if not 0 <= probability <= 1:
            raise ValueError(f"mix.probability={probability}: must be within 0 and 1")
        self.sources = [real, *generated]
        self.pictures = [Decoded(images, folder) for images in self.sources]
        self.ends = list(accumulate(map(len, self.sources)))
        self.length = len(real) if how == "replace" else self.ends[-1]
        self.probability = probability if how == "replace" else 0.0
        self.repeats = _Repeats(real, generated) if self.probability else None
        self.transform = transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        source, index = self._drawn(position)
        return self.transform(self.pictures[source][index]), self.sources[source].labels[index]

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images, uint8 (B, 3, H, W), and their labels (B,)."""
        drawn = [self._drawn(position) for position in positions]
        labels = torch.tensor([self.sources[source].labels[index] for source, index in drawn])
        if isinstance(self.transform, BatchTransform):
            pixels = [self.pictures[source].pixels(index) for source, index in drawn]
            return self.transform.batch(pixels), labels
        pictures = (self.pictures[source][index] for source, index in drawn)
        return torch.stack([self.transform(picture) for picture in pictures]), labels

    def _drawn(self, position: int) -> tuple[int, int]:
        """Source, and index in it, of the image drawn for `position`."""
        if self.repeats is not None and torch.rand(()) < self.probability:
            repeats = self.repeats.of(position)
            if len(repeats):
                position = int(repeats[int(torch.randint(len(repeats), ()))])
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


class _Repeats:
    """Positions, in the whole set, of the images generated from each original.

    Held as one array, sorted by original, since there may be millions of them.
    """

    def __init__(self, real: ImageSet, generated: Sequence[ImageSet]) -> None:
        number = {key: index for index, key in enumerate(real.keys)}
        keys = (key for images in generated for key in images.keys)
        count = sum(map(len, generated))
        original = np.fromiter(
            (number.get(key.rpartition("#")[0], -1) for key in keys), np.int64, count
        )
        order = np.argsort(original, kind="stable")
        self.starts = np.searchsorted(original[order], np.arange(len(real) + 1))
        self.positions = order + len(real)

    def of(self, index: int) -> np.ndarray:
        return self.positions[self.starts[index] : self.starts[index + 1]]
