"""Datasets: the images that a run trains, validates and tests on, drawn from the splits of a
source.

Draws (shots, a fraction, a long tail, held-out parts) do not depend on the order of the images, and
with one seed a smaller draw is part of a larger one.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from sgid.data.image_set import ImageSet, join
from sgid.data.listing import Splits, phrase
from sgid.data.scan import scan
from sgid.reproducibility import derive_seed

# What is held out is the same in every run, whatever its seed, so that runs can be compared.
SPLIT_SEED = 0

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class SplitProtocol:
    """Which of a source's images train, validate and test.

    First the parts that the source does not have are held out from train, the same in every run:
    for test all but `train_per_class` images of each class, or the share `test`; for validation, of
    what is left, the share `validation`. With `trainval` the source's own validation part is
    joined to train before. Then train is cut down, by the run's seed, to `shots` images of each
    class, to a `fraction` of each class, or to a long tail whose first class has `imbalance` times
    the images of the last. All that is `None` is not done.

    Raises:
        ValueError: if more than one of the three cuts is given.
    """

    validation: float = 0.1
    test: float = 0.2
    trainval: bool = False
    train_per_class: int | None = None
    shots: int | None = None
    fraction: float | None = None
    imbalance: float | None = None

    def __post_init__(self) -> None:
        if len(cuts := self.cuts) > 1:
            given = ", ".join(f"dataset.{name}={value}" for name, value in cuts.items())
            raise ValueError(f"{given}: give one of them, the others null")

    @property
    def cuts(self) -> dict[str, float]:
        """Those of `shots`, `fraction`, `imbalance` that are given; one at most."""
        options = {key: getattr(self, key) for key in ("shots", "fraction", "imbalance")}
        return {key: value for key, value in options.items() if value is not None}


@final
@dataclass(frozen=True)
class Dataset:
    """The images of a run. `protocol` says in JSON's terms how they came about."""

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    noun: str | None
    protocol: dict[str, Any]

    @property
    def phrases(self) -> tuple[str, ...]:
        """The class names as prompts say them: `pink primrose` with noun `flower`."""
        return tuple(phrase(name, self.noun) for name in self.class_names)


def load_dataset(
    splits: Splits,
    protocol: SplitProtocol,
    *,
    name: str,
    noun: str | None = None,
    max_bad: float,
    seed: int,
    cache: Path,
) -> Dataset:
    """Read every listed image once (`scan`, which keeps its findings in `cache`); then divide.

    Raises:
        ValueError: if too many images are bad, or a class has too few for what is asked.
    """
    given: dict[str, ImageSet] = {}
    left_out: list[str] = []
    for split, listing in splits.present().items():
        given[split], bad = scan(listing, max_bad=max_bad, cache=cache)
        left_out += [f"{key}: {problem}" for key, problem in bad.items()]
    pool, train, held = _divide(given, protocol, seed)

    tested = set(held["test"].checksums)
    duplicates = sum(checksum in tested for checksum in train.checksums)
    if left_out:
        log.warning("%s: %d unreadable images are left out", name, len(left_out))
    if duplicates:
        log.warning("%s: %d training images are in the test set as well", name, duplicates)
    sizes = Counter(train.labels).values()
    told = {
        "name": name,
        "classes": len(train.class_names),
        "train": len(train),
        "train_per_class": [min(sizes), max(sizes)],
        "train_drawn_from": len(pool),
        "pool_digest": pool.digest(),
        "shots": protocol.shots,
        "fraction": protocol.fraction,
        "imbalance": protocol.imbalance,
        "seed": seed,
        **{split: len(images) for split, images in held.items()},
        "note": splits.note,
        "train_from": _train_from(protocol),
        **{f"{split}_from": _held_from(split, given, protocol) for split in held},
        "train_test_duplicates": duplicates,
        "left_out": {"count": len(left_out), "first": left_out[:20]},
        "ignored_files": splits.ignored,
    }
    return Dataset(name, train, held["validation"], held["test"], train.class_names, noun, told)


def check_splits(splits: Splits, protocol: SplitProtocol) -> None:
    """Raise what `load_dataset` would about too small classes, without reading an image."""
    unread = {split: listing.images(listing.stamps) for split, listing in splits.present().items()}
    _divide(unread, protocol, SPLIT_SEED)


def _divide(
    given: dict[str, ImageSet], protocol: SplitProtocol, seed: int
) -> tuple[ImageSet, ImageSet, dict[str, ImageSet]]:
    """What train is drawn from, train, and the other two."""
    pool = given["train"]
    if protocol.trainval:
        if "validation" not in given:
            raise ValueError("dataset.trainval=true: the source has no validation split to join")
        pool = join(pool, given["validation"])
        given = {split: images for split, images in given.items() if split != "validation"}
    held: dict[str, ImageSet] = {}
    if "test" in given:
        held["test"] = given["test"]
        if protocol.train_per_class is not None:
            raise ValueError(
                f"dataset.train_per_class={protocol.train_per_class} holds out a test set, but the "
                "source has its own: set it to null, and see dataset.shots"
            )
    elif protocol.train_per_class is not None:
        pool, held["test"] = keep_images(pool, protocol.train_per_class, SPLIT_SEED)
    else:
        pool, held["test"] = hold_out(pool, protocol.test, SPLIT_SEED, option="dataset.test")
    if "validation" in given:
        held["validation"] = given["validation"]
    else:
        share = protocol.validation
        pool, held["validation"] = hold_out(pool, share, SPLIT_SEED, option="dataset.validation")
    if bare := set(range(len(pool.class_names))) - set(pool.labels):
        names = [pool.class_names[label] for label in sorted(bare)]
        raise ValueError(f"classes without an image to train on: {', '.join(names[:5])}")
    return pool, _cut(pool, protocol, seed), held


def _cut(pool: ImageSet, protocol: SplitProtocol, seed: int) -> ImageSet:
    draw = {"shots": few_shot, "fraction": subset, "imbalance": long_tail}
    for name, value in protocol.cuts.items():
        return draw[name](pool, value, seed)
    return pool


def _train_from(protocol: SplitProtocol) -> str:
    return f"the source's own train{' and validation' if protocol.trainval else ''} split"


def _held_from(split: str, given: dict[str, ImageSet], protocol: SplitProtocol) -> str:
    if split in given and not (split == "validation" and protocol.trainval):
        return "the source's own split"
    if split == "test" and protocol.train_per_class is not None:
        kept = protocol.train_per_class
        return f"all but {kept} images of each class of train, held out with seed {SPLIT_SEED}"
    share = asdict(protocol)[split]
    return f"{share} of each class of train, held out with seed {SPLIT_SEED}"


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


def keep_images(images: ImageSet, per_class: int, seed: int) -> tuple[ImageSet, ImageSet]:
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
