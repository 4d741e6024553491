"""Training on originals and generated images together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from sgid.data.images import ImageSet

HOW = ("concatenate", "replace")


class Mixed(Dataset):
    """Originals, and the images generated from them.

    `concatenate` makes one set of both. `replace` keeps the originals' length and, each time that
    one is asked for, swaps it with `probability` for one of the images generated from it.

    Args:
        generated: sets whose keys are `<key of the original>#<repeat>`.
        transform: from a PIL image to a uint8 tensor (3, H, W).
        cache_bytes: decoded images are kept in memory up to this much.
    """

    def __init__(
        self,
        real: ImageSet,
        generated: Sequence[ImageSet] = (),
        *,
        transform: Callable[[Image], Tensor],
        how: str = "concatenate",
        probability: float = 0.5,
        cache_bytes: float = 0,
    ) -> None:
        if how not in HOW:
            raise ValueError(f"mix.how={how}: unknown; one of {', '.join(HOW)}")
        if not 0 <= probability <= 1:
            raise ValueError(f"mix.probability={probability}: must be within 0 and 1")
        self.sources = [real, *generated]
        self.index = [(s, i) for s, images in enumerate(self.sources) for i in range(len(images))]
        self.length = len(real) if how == "replace" else len(self.index)
        self.probability = probability if how == "replace" else 0.0
        self.transform = transform
        self.repeats: dict[str, list[int]] = defaultdict(list)
        for position in range(len(real), len(self.index)):
            source, i = self.index[position]
            self.repeats[self.sources[source].keys[i].rpartition("#")[0]].append(position)
        self.cache: dict[int, Image] = {}
        self.cache_bytes = cache_bytes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        if self.probability and torch.rand(()) < self.probability:
            repeats = self.repeats[self.sources[0].keys[position]]
            if repeats:
                position = repeats[int(torch.randint(len(repeats), ()))]
        source, i = self.index[position]
        return self.transform(self._image(position)), self.sources[source].labels[i]

    def _image(self, position: int) -> Image:
        if position in self.cache:
            return self.cache[position]
        source, i = self.index[position]
        image = self.sources[source][i].image
        size = 3 * image.width * image.height
        if size <= self.cache_bytes:
            self.cache_bytes -= size
            self.cache[position] = image
        return image
