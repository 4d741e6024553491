"""From what a source lists to the images that a run trains, validates and tests on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sgid.data.images import ImageSet
from sgid.data.listing import Splits
from sgid.data.scan import scan
from sgid.data.splits import few_shot, hold_out

# What is held out is the same in every run, whatever its seed, so that runs can be compared.
SPLIT_SEED = 0

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Dataset:
    """The images of a run. `protocol` says in JSON's terms how they came about."""

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    protocol: dict[str, Any]


def load(
    splits: Splits,
    *,
    name: str,
    shots: int | None,
    validation: float,
    test: float,
    max_bad: float,
    seed: int,
    cache: Path,
) -> Dataset:
    """Read every listed image once (`scan`, which keeps its findings in `cache`); then divide.

    A split that the source does not have is held out from train: first the share `test`, then of
    the rest the share `validation`. Last, `shots` images of each class are drawn from train by
    `seed`; `None` takes all. The shares are not looked at where the source has the split.

    Raises:
        ValueError: if too many images are bad, or a class has too few for what is asked.
    """
    given: dict[str, ImageSet] = {}
    left_out: list[str] = []
    for split, listing in splits.present().items():
        given[split], bad = scan(listing, max_bad=max_bad, cache=cache)
        left_out += [f"{key}: {problem}" for key, problem in bad.items()]
    pool, train, held = _divide(given, shots=shots, validation=validation, test=test, seed=seed)

    tested = set(held["test"].checksums)
    duplicates = sum(checksum in tested for checksum in train.checksums)
    if left_out:
        log.warning("%s: %d unreadable images are left out", name, len(left_out))
    if duplicates:
        log.warning("%s: %d training images are in the test set as well", name, duplicates)
    shares = {"validation": validation, "test": test}
    protocol = {
        "name": name,
        "classes": len(train.class_names),
        "train": len(train),
        "train_drawn_from": len(pool),
        "shots": shots,
        "seed": seed,
        **{split: len(images) for split, images in held.items()},
        **{
            f"{split}_from": "the source's own split"
            if split in given
            else f"{share} of each class of train, held out with seed {SPLIT_SEED}"
            for split, share in shares.items()
        },
        "train_test_duplicates": duplicates,
        "left_out": {"count": len(left_out), "first": left_out[:20]},
        "ignored_files": splits.ignored,
    }
    return Dataset(name, train, held["validation"], held["test"], train.class_names, protocol)


def check(splits: Splits, *, shots: int | None, validation: float, test: float) -> None:
    """Raise what `load` would about classes that are too small, without reading an image."""
    unread = {split: listing.images(listing.stamps) for split, listing in splits.present().items()}
    _divide(unread, shots=shots, validation=validation, test=test, seed=SPLIT_SEED)


def _divide(
    given: dict[str, ImageSet], *, shots: int | None, validation: float, test: float, seed: int
) -> tuple[ImageSet, ImageSet, dict[str, ImageSet]]:
    """What train is drawn from, train, and the other two."""
    pool = given["train"]
    held: dict[str, ImageSet] = {}
    for split, share in (("test", test), ("validation", validation)):
        if split in given:
            held[split] = given[split]
        else:
            pool, held[split] = hold_out(pool, share, SPLIT_SEED, option=f"dataset.{split}")
    if bare := set(range(len(pool.class_names))) - set(pool.labels):
        names = [pool.class_names[label] for label in sorted(bare)]
        raise ValueError(f"classes without an image to train on: {', '.join(names[:5])}")
    return pool, pool if shots is None else few_shot(pool, shots, seed), held
