"""Per-image and per-batch transforms around the augmentations that a config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2

from sgid.augmentation.sizes import SMALL


def training_transform(
    size: int, online: Sequence[Callable[[Image], Image]] = ()
) -> Callable[[Image], Tensor]:
    """Crop and flip, then `online` in the order given; PIL RGB -> uint8 (3, size, size).

    Small images are padded by an eighth and cropped (He et al., 2016); larger ones are cropped to a
    random area of 25% or more and resized.
    """
    if size <= SMALL:
        crop = [v2.Resize((size, size)), v2.RandomCrop(size, padding=size // 8)]
    else:
        crop = [v2.RandomResizedCrop(size, scale=(0.25, 1.0), antialias=True)]
    return v2.Compose([*crop, v2.RandomHorizontalFlip(), *online, v2.PILToTensor()])


def evaluation_transform(size: int) -> Callable[[Image], Tensor]:
    """PIL RGB -> uint8 (3, size, size): the whole of a small image, the centre of a larger one."""
    if size <= SMALL:
        return v2.Compose([v2.Resize((size, size)), v2.PILToTensor()])
    resize = v2.Resize(round(size / 0.875), antialias=True)
    return v2.Compose([resize, v2.CenterCrop(size), v2.PILToTensor()])


def batch_transform(choices: Sequence[Callable[..., Any]], num_classes: int) -> Any:
    """One of the batch augmentations at random for each batch; `None` when there is none."""
    if not choices:
        return None
    made = [choice(num_classes=num_classes) for choice in choices]
    return made[0] if len(made) == 1 else v2.RandomChoice(made)
