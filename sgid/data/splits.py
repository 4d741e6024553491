"""Drawing images of each class: a few, a share, a long tail, or what is held out of them.

Nothing here depends on the order of the images, and with one seed a smaller draw is part of a
larger one.
"""

from __future__ import annotations

from sgid.data.images import ImageSet
from sgid.reproducibility import derive_seed


def few_shot(images: ImageSet, shots: int, seed: int) -> ImageSet:
    """`shots` images of each class, class by class.

    Raises:
        ValueError: if `shots` is not positive, or a class has fewer images.
    """
    if shots < 1:
        raise ValueError(f"dataset.shots={shots} must be 1 or more, or null for all images")
    picked: list[int] = []
    for label, members in enumerate(_drawn(images, seed, "few_shot")):
        if len(members) < shots:
            raise ValueError(
                f"class {images.class_names[label]!r} has {len(members)} images to train on, but "
                f"dataset.shots={shots} asks for {shots} of each class"
            )
        picked += members[:shots]
    return images.select(picked)


def subset(images: ImageSet, fraction: float, seed: int) -> ImageSet:
    """The share `fraction` of each class, to the nearest image and at least one, class by class.

    Raises:
        ValueError: if `fraction` is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"dataset.fraction={fraction} must be above 0, at most 1")
    drawn = _drawn(images, seed, "few_shot")
    return images.select(
        [i for members in drawn for i in members[: max(1, int(fraction * len(members) + 0.5))]]
    )


def long_tail(images: ImageSet, imbalance: float, seed: int) -> ImageSet:
    """Class `c` of `C` keeps n · imbalance^(-c / (C - 1)) images, n being the largest class.

    The classes stay in their order, the first is the head (Cui et al., CVPR 2019). A class keeps at
    most what it has, and at least one image.

    Raises:
        ValueError: if `imbalance`, the ratio of the first class to the last, is below 1.
    """
    if imbalance < 1:
        raise ValueError(f"dataset.imbalance={imbalance} must be 1 or more: first class to last")
    drawn = _drawn(images, seed, "few_shot")
    largest, last = max(map(len, drawn)), len(drawn) - 1
    picked: list[int] = []
    for label, members in enumerate(drawn):
        count = int(largest * imbalance ** (-label / last) + 1e-9)
        picked += members[: max(1, count)]
    return images.select(picked)


def keep(images: ImageSet, per_class: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """`per_class` images of each class, and all the others; both class by class.

    Raises:
        ValueError: if `per_class` is not positive, or a class has no more images than that.
    """
    option = f"dataset.train_per_class={per_class}"
    if per_class < 1:
        raise ValueError(f"{option} must be 1 or more")
    kept: list[int] = []
    others: list[int] = []
    for label, members in enumerate(_drawn(images, seed, "hold_out")):
        if len(members) <= per_class:
            raise ValueError(
                f"class {images.class_names[label]!r} has {len(members)} images, but {option} "
                "needs more than that, the rest being the test set"
            )
        kept += members[:per_class]
        others += members[per_class:]
    return images.select(kept), images.select(others)


def hold_out(
    images: ImageSet, share: float, seed: int, *, option: str
) -> tuple[ImageSet, ImageSet]:
    """The rest, and the `share` of each class that is held out: to the nearest image, and at
    least one; both class by class.

    `option` is the config key of `share`, which the messages name.

    Raises:
        ValueError: if `share` is not between 0 and 1, or a class has fewer than two images.
    """
    if not 0 < share < 1:
        raise ValueError(f"{option}={share} must be a share of the images, between 0 and 1")
    rest: list[int] = []
    held: list[int] = []
    for label, members in enumerate(_drawn(images, seed, "hold_out")):
        if len(members) < 2:
            raise ValueError(
                f"class {images.class_names[label]!r} has {len(members)} image(s) left, too few "
                f"to hold out a part ({option}={share}): give it more images or remove it"
            )
        count = min(max(int(share * len(members) + 0.5), 1), len(members) - 1)
        held += members[:count]
        rest += members[count:]
    return images.select(rest), images.select(held)


def _drawn(images: ImageSet, seed: int, purpose: str) -> list[list[int]]:
    """For each class the indices of its images, in an order that hangs on `seed` and keys only."""
    members: list[list[int]] = [[] for _ in images.class_names]
    for index, label in enumerate(images.labels):
        members[label].append(index)
    for indices in members:
        indices.sort(key=lambda index: derive_seed(seed, purpose, images.keys[index]))
    return members
