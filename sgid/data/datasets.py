"""From what a source lists to the images that a run trains, validates and tests on."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from sgid.data.images import ImageSet, join
from sgid.data.listing import Splits
from sgid.data.names import phrase
from sgid.data.scan import scan
from sgid.data.splits import few_shot, hold_out, keep, long_tail, subset

# What is held out is the same in every run, whatever its seed, so that runs can be compared.
SPLIT_SEED = 0

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Protocol:
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


def load(
    splits: Splits,
    protocol: Protocol,
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


def check(splits: Splits, protocol: Protocol) -> None:
    """Raise what `load` would about classes that are too small, without reading an image."""
    unread = {split: listing.images(listing.stamps) for split, listing in splits.present().items()}
    _divide(unread, protocol, SPLIT_SEED)


def _divide(
    given: dict[str, ImageSet], protocol: Protocol, seed: int
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
        pool, held["test"] = keep(pool, protocol.train_per_class, SPLIT_SEED)
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


def _cut(pool: ImageSet, protocol: Protocol, seed: int) -> ImageSet:
    draw = {"shots": few_shot, "fraction": subset, "imbalance": long_tail}
    for name, value in protocol.cuts.items():
        return draw[name](pool, value, seed)
    return pool


def _train_from(protocol: Protocol) -> str:
    return f"the source's own train{' and validation' if protocol.trainval else ''} split"


def _held_from(split: str, given: dict[str, ImageSet], protocol: Protocol) -> str:
    if split in given and not (split == "validation" and protocol.trainval):
        return "the source's own split"
    if split == "test" and protocol.train_per_class is not None:
        kept = protocol.train_per_class
        return f"all but {kept} images of each class of train, held out with seed {SPLIT_SEED}"
    share = asdict(protocol)[split]
    return f"{share} of each class of train, held out with seed {SPLIT_SEED}"
