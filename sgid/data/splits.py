"""Drawing images: few of each class, or a share held out. Neither depends on their order."""

from __future__ import annotations

from sgid.data.images import ImageSet
from sgid.seeding import derive_seed


def few_shot(images: ImageSet, shots: int, seed: int) -> ImageSet:
    """`shots` images of each class, class by class.

    With the same `seed`, the images of fewer shots are among those of more.

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
