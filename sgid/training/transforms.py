"""Per-image and per-batch transforms around the augmentations that a config names, and the side in
pixels at which a classifier sees the images of a set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, final

import numpy as np
import torch
from PIL.Image import Image, Transpose, fromarray
from torch import Tensor
from torchvision.transforms import v2

from sgid.data.decode import centre
from sgid.data.image_set import ImageSet

Base = Callable[[int], Callable[[Image], Image]]
"""From a side in pixels to what brings each image to it; every training begins with one."""


def flip_crop(
    size: int,
    *,
    padding: float = 0.125,
    area: Sequence[float] = (0.25, 1.0),
    flip: float = 0.5,
) -> Callable[[Image], Image]:
    """A random crop, then a random flip; PIL RGB -> PIL RGB (size, size).

    Args:
        padding: share of the side by which small images are padded, in black, before they are
            cropped (He et al., 2016).
        area: smallest and largest share of a larger image that is cropped and resized.
        flip: probability of left and right changing places.

    Raises:
        ValueError: for a number that is out of range.
    """
    if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"area={list(area)}: must be two numbers above 0, ascending, at most 1")
    if not 0 <= padding <= 1:
        raise ValueError(f"padding={padding}: must be from 0 to 1")
    if not 0 <= flip <= 1:
        raise ValueError(f"flip={flip}: must be from 0 to 1")
    if size <= SMALL:
        return _FlipShift(size, int(size * padding), flip)
    crop = v2.RandomResizedCrop(size, scale=(area[0], area[1]), antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip(flip)])


@final
class _FlipShift:
    """torchvision's `Resize`, `RandomCrop` with padding, `RandomHorizontalFlip`: the same draws and
    pixels in a fifth of the time, most of which goes for a small image into how they are called."""

    def __init__(self, size: int, padding: int, flip: float) -> None:
        self.resize = v2.Resize((size, size))
        self.size = size
        self.padding = padding
        self.flip = flip

    def __call__(self, image: Image) -> Image:
        size, padding = self.size, self.padding
        if image.size != (size, size):
            image = self.resize(image)
        if padding:
            top = int(torch.randint(2 * padding + 1, ())) - padding
            left = int(torch.randint(2 * padding + 1, ())) - padding
            image = image.crop((left, top, left + size, top + size))  # black beyond the border
        if torch.rand(1).item() < self.flip:
            image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
        return image

    def batch(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """Transform many, uint8 (size, size, 3) each -> (B, 3, size, size)."""
        count, size, padding = len(pixels), self.size, self.padding
        tops, lefts = (torch.randint(2 * padding + 1, (2, count)) - padding).tolist()
        flips = (torch.rand(count) < self.flip).tolist()
        out = np.zeros((count, size, size, 3), np.uint8)  # black beyond the border
        for to, one, top, left, flipped in zip(out, pixels, tops, lefts, flips, strict=True):
            rows = slice(max(-top, 0), size - max(top, 0))
            columns = slice(max(-left, 0), size - max(left, 0))
            seen = one[max(top, 0) : size + min(top, 0), max(left, 0) : size + min(left, 0)]
            (to[:, ::-1] if flipped else to)[rows, columns] = seen
        return torch.from_numpy(out).permute(0, 3, 1, 2)


def as_is(size: int) -> Callable[[Image], Image]:
    """Resize; crop the centre of an image that is not small; PIL RGB -> PIL RGB (size, size)."""
    if size <= SMALL:
        return _Whole(size)
    resize = v2.Resize(round(size / 0.875), antialias=True)
    return v2.Compose([centre, resize, v2.CenterCrop(size)])


@final
class _Whole:
    """The whole image, resized where it has to be."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.resize = v2.Resize((size, size))

    def __call__(self, image: Image) -> Image:
        return image if image.size == (self.size, self.size) else self.resize(image)

    def batch(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """Transform many, uint8 (size, size, 3) each -> (B, 3, size, size)."""
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def training_transform(
    size: int, online: Sequence[Callable[[Image], Image]] = (), base: Base = flip_crop
) -> Callable[[Image], Tensor]:
    """`base`, then `online` in the order given; PIL RGB -> uint8 (3, size, size)."""
    return _Chain([base(size), *online])


def evaluation_transform(size: int) -> Callable[[Image], Tensor]:
    """Transform for validation and test, `as_is`; PIL RGB -> uint8 (3, size, size)."""
    return _Chain([as_is(size)])


@final
class _Chain:
    """Composition of transforms, then PIL RGB -> uint8 (3, H, W)."""

    def __init__(self, transforms: Sequence[Callable[[Image], Image]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Image) -> Tensor:
        for transform in self.transforms:
            image = transform(image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)

    def batch(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """uint8 (H, W, 3) each -> uint8 (B, 3, size, size).

        Small images that have their size already are done all at once: image by image, the calls
        cost more than the work.
        """
        match self.transforms:
            case [_FlipShift() | _Whole() as only]:
                if all(one.shape[:2] == (only.size, only.size) for one in pixels):
                    return only.batch(pixels)
        return torch.stack([self(fromarray(one)) for one in pixels])


def autoaugment(*, policy: str) -> Callable[[Image], Image]:
    """torchvision's AutoAugment with one of the policies that the paper found, by its name."""
    policies = [one.value for one in v2.AutoAugmentPolicy]
    if policy not in policies:
        raise ValueError(f"policy={policy}: must be one of {', '.join(policies)}")
    return v2.AutoAugment(v2.AutoAugmentPolicy(policy))


def batch_transform(choices: Sequence[Callable[..., Any]], num_classes: int) -> Any:
    """Choice of one batch augmentation at random for each batch; `None` if there is none."""
    if not choices:
        return None
    made = [choice(num_classes=num_classes) for choice in choices]
    return made[0] if len(made) == 1 else v2.RandomChoice(made)


SMALL = 96
"""Images up to this side are small: they are padded and cropped, not cropped and resized, and
backbones keep their resolution."""

LARGE = 224
"""What larger images are brought to."""


def training_size(images: ImageSet) -> int:
    """The median shorter side of the first images, to a multiple of 8, where that is small."""
    side = median(min(images[i].image.size) for i in range(min(32, len(images))))
    return max(8, round(side / 8) * 8) if side <= SMALL else LARGE
