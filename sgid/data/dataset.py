"""Datasets: the images that a run trains, validates and tests on, drawn from the splits of a
source.

Draws (shots, a fraction, a long tail, held-out parts) do not depend on the order of the images, and
with one seed a smaller draw is part of a larger one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

from sgid.data.decode import NOTES, Scale
from sgid.data.image_set import ImageSet, join
from sgid.data.listing import ClassText, Splits, phrase
from sgid.data.scan import Finding, common_scale, scan
from sgid.data.shrink import named, shrink
from sgid.reproducibility import derive_seed, fingerprint

# What is held out is the same in every run, whatever its seed, so that runs can be compared.
SPLIT_SEED = 0

# Who keeps an image that is in several splits, the first one first.
DUPLICATES = {
    "train": ("test", "validation", "train"),
    "test": ("train", "validation", "test"),
    "keep": (),
}


@final
@dataclass(frozen=True)
class SplitProtocol:
    """Rules by which a source's images are divided into train, validation and test.

    First the parts that the source does not have are held out from train, the same in every run:
    for test all but `train_per_class` images of each class, or the share `test`; for validation, of
    what is left, the share `validation`, drawn by `validation_seed` where that is given (test is
    the same whatever it is). With `trainval` the source's own validation part is joined to train
    before. Then train is cut down, by the run's seed, to `shots` images of each
    class, to a `fraction` of each class, or to a long tail whose first class has `imbalance` times
    the images of the last. All that is `None` is not done.

    Raises:
        ValueError: if more than one of the three cuts is given.
    """

    validation: float = 0.1
    validation_seed: int | None = None
    test: float = 0.2
    trainval: bool = False
    train_per_class: int | None = None
    shots: int | None = None
    fraction: float | None = None
    imbalance: float | None = None
    group: str | None = None
    duplicates: str = "keep"

    def __post_init__(self) -> None:
        if self.duplicates not in DUPLICATES:
            allowed = ", ".join(DUPLICATES)
            raise ValueError(f"dataset.duplicates={self.duplicates} must be one of {allowed}")
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(
                    f"dataset.group={self.group} is no regular expression: {error}"
                ) from error
            if self.train_per_class is not None:
                raise ValueError("dataset.group and dataset.train_per_class: give one of them")
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
    """The images of a run. `protocol` says in JSON's terms how they came about.

    `texts` are superclasses and descriptions of the classes, where a table gives them, and
    `captions` those that people wrote, by an image's key, where they are asked for.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    noun: str | None
    protocol: dict[str, Any]
    texts: tuple[ClassText, ...] = ()
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nouns(self) -> str | None | list[str | None]:
        """`noun`; or one for each class, where a table of classes gives them superclasses."""
        if not any(text.superclass for text in self.texts):
            return self.noun
        return [text.superclass or self.noun for text in self.texts]

    @property
    def fingerprint(self) -> str:
        """Identifies the images of runs that can be compared; the same for every seed.

        These are the pool that the training images are drawn from, validation and test.
        """
        splits = (self.validation.digest(), self.test.digest())
        return fingerprint([self.protocol["pool_digest"], *splits])

    @property
    def phrases(self) -> tuple[str, ...]:
        """The class names as prompts say them: `pink primrose` with noun `flower`."""
        nouns = self.nouns
        nouns = nouns if isinstance(nouns, list) else [nouns] * len(self.class_names)
        return tuple(map(phrase, self.class_names, nouns))

    @property
    def words(self) -> dict[str, tuple[str, ...]]:
        """Words of each class for prompts, by the field of their template; "" for none."""
        texts = self.texts or tuple(map(ClassText, self.class_names))
        return {
            "label": self.phrases,
            "superclass": tuple(text.superclass or self.noun or "" for text in texts),
            "description": tuple(text.description or "" for text in texts),
        }


def load_dataset(
    splits: Splits,
    protocol: SplitProtocol,
    *,
    name: str,
    noun: str | None = None,
    max_bad: float,
    seed: int,
    cache: Path,
    full_scale: float | None = None,
    strict: bool = False,
    size: int | None = None,
) -> Dataset:
    """Read every listed image once (`scan`, which keeps its findings in `cache`); then divide.

    `full_scale` is what is white in images of more than 8 bits, where it is known. Images whose
    shorter side has more than `size` pixels are shrunk to it, in copies beside `cache`.

    Raises:
        ValueError: if too many images are bad, or a class has too few for what is asked; if
            anything is to be remarked at all, with `strict`.
    """
    given: dict[str, ImageSet] = {}
    findings: dict[str, Finding] = {}
    for split, listing in splits.present().items():
        given[split], special = scan(listing, max_bad=max_bad, cache=cache)
        findings |= special
    scale = common_scale(findings.values(), full_scale)
    given = {split: replace(images, scale=scale) for split, images in given.items()}
    if size:
        given = {split: named(images, size) for split, images in given.items()}
    left_out = [f"{key}: {one.problem}" for key, one in findings.items() if one.problem]
    remarks = list(splits.remarks)
    if left_out:
        remarks.append(f"left out: {len(left_out):,} unreadable images, as {left_out[0]}")
    remarks += _note_remarks(given, findings)
    if not full_scale and scale != Scale():
        remarks.append(_depth_remark(given, findings, scale))
    given, duplicate_remarks = _without_duplicates(given, protocol)
    remarks += duplicate_remarks
    pool, train, held = _divide(given, protocol, seed)
    remarks += _group_remarks(given, pool, protocol)
    for split, images in held.items():
        if bare := set(range(len(pool.class_names))) - set(images.labels):
            names = [pool.class_names[label] for label in sorted(bare)]
            remarks.append(f"{split} has no image of {_few(names)}")
    tested = set(held["test"].checksums)
    duplicates = sum(checksum in tested for checksum in train.checksums)
    if duplicates:
        remarks.append(f"{duplicates:,} training images are in the test set as well")
    if strict and remarks:
        listed = "".join(f"\n  - {remark}" for remark in remarks)
        raise ValueError(
            f"dataset.strict=true: of {name} is to be remarked{listed}\n"
            "Change what is wrong, or leave dataset.strict=false."
        )
    sizes = Counter(train.labels).values()
    origins = {
        "train_from": _train_from(given, protocol, splits.places),
        **{f"{split}_from": _held_from(split, given, protocol, splits.places) for split in held},
    }
    parts = {"train": train, "validation": held["validation"], "test": held["test"]}
    if size:
        parts = {name: shrink(one, size, cache.parent / "shrunk") for name, one in parts.items()}
    summary = {
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
        **({"size": size} if size else {}),
        **{split: len(images) for split, images in held.items()},
        "note": splits.note,
        **origins,
        "train_test_duplicates": duplicates,
        "left_out": {"count": len(left_out), "first": left_out[:20]},
        "ignored_files": splits.ignored,
        "understood": f"{name}: {len(train.class_names):,} classes; "
        + "; ".join(f"{part} {len(images):,}" for part, images in parts.items())
        + (f"; {len(remarks):,} remarks" if remarks else ""),
        "remarks": remarks,
    }
    texts = splits.texts or tuple(map(ClassText, train.class_names))
    return Dataset(
        name, **parts, class_names=train.class_names, noun=noun, protocol=summary, texts=texts,
        captions=splits.captions,
    )  # fmt: skip


def _note_remarks(given: Mapping[str, ImageSet], findings: Mapping[str, Finding]) -> list[str]:
    """Remarks on images that are used, but may show nothing, or not all of it."""
    remarks = []
    for note, what in NOTES.items():
        keys = [key for key, one in findings.items() if note in one.notes.split()]
        if not keys:
            continue
        marked, counts, totals = set(keys), Counter[int](), Counter[int]()
        names: tuple[str, ...] = ()
        for images in given.values():
            names = images.class_names
            totals.update(images.labels)
            pairs = zip(images.keys, images.labels, strict=True)
            counts.update(label for key, label in pairs if key in marked)
        classes = [f"{names[one]} ({count:,} of {totals[one]:,})" for one, count in counts.items()]
        remarks.append(f"{len(keys):,} images {what}: {_few(classes)}; the first is {keys[0]}")
    return remarks


def _depth_remark(
    given: Mapping[str, ImageSet], findings: Mapping[str, Finding], scale: Scale
) -> str:
    deep = [one for one in findings.values() if one.kind and not one.problem]
    total = sum(map(len, given.values()))
    text = []
    for kind, what, span in (("i", "whole numbers", scale.integers), ("f", "floats", scale.floats)):
        if span is not None:
            low = min(one.low for one in deep if one.kind == kind)
            high = max(one.high for one in deep if one.kind == kind)
            bits = int(span[1]).bit_length() if span[0] == 0 and kind == "i" else None
            depth = f"{bits} bits: " if bits else ""
            text.append(
                f"{what} from {low:g} to {high:g}, read as {depth}{span[0]:g} is black, "
                f"{span[1]:g} white"
            )
    return (
        f"{len(deep):,} of {total:,} images have more than 8 bits ({'; '.join(text)}); "
        "dataset.full_scale=VALUE says what is white"
    )


def _without_duplicates(
    given: Mapping[str, ImageSet], protocol: SplitProtocol
) -> tuple[dict[str, ImageSet], list[str]]:
    """The splits without images of equal bytes, as `protocol.duplicates` wants it, and remarks.

    Those with several labels leave every split, those in several splits all but one. Of copies in
    train the first stays, if a part of train is to be held out, which might get one of two.
    """
    places: dict[str, list[tuple[str, int, str]]] = {}
    for split, images in given.items():
        for key, label, checksum in zip(images.keys, images.labels, images.checksums, strict=True):
            places.setdefault(checksum, []).append((split, label, key))
    places = {checksum: found for checksum, found in places.items() if len(found) > 1}
    order = DUPLICATES[protocol.duplicates]
    divided = "test" not in given or "validation" not in given or protocol.trainval
    dropped: dict[str, set[str]] = {split: set() for split in given}
    labels, across, copies = [], [], []
    for found in places.values():
        splits = {split for split, _, _ in found}
        if len({label for _, label, _ in found}) > 1:
            labels.append(found)
            lost = found if order else []
        elif len(splits) > 1:
            across.append(found)
            first = next((split for split in order if split in splits), None)
            lost = [one for one in found if order and one[0] != first]
        else:
            split = found[0][0]
            if split != "train" or not divided:
                continue
            copies.append(found)
            lost = sorted(found)[1:] if order else []
        for split, _, key in lost:
            dropped[split].add(key)
    remarks = []
    for kind, what in (
        (labels, "images are in several classes"),
        (across, "images are in several splits"),
        (copies, "training images are there several times"),
    ):
        if kind:
            lost = sum(key in dropped[split] for found in kind for split, _, key in found)
            where = sorted(
                {split for found in kind for split, _, key in found if key in dropped[split]}
            )
            done = f"{lost:,} files are left out of {', '.join(where)}" if order else "all are used"
            keys = " = ".join(key for _, _, key in kind[0][:3])
            remarks.append(
                f"{len(kind):,} {what}, as {keys}; {done} "
                f"(dataset.duplicates={protocol.duplicates})"
            )
    kept = {
        split: images.select([i for i, key in enumerate(images.keys) if key not in dropped[split]])
        if dropped[split]
        else images
        for split, images in given.items()
    }
    return kept, remarks


# Keys of images of one origin, which are on one side of a split or the result is no evidence.
_ORIGINS = (
    r"(?i)(?:^|[/_. -])((?:patient|pat|subject|subj|person|video|vid|clip|seq|sequence|series"
    r"|study|slide|session|specimen)[-_ ]?\d+)",
    r"([^/]+?)_(?:jpe?g|png)\.rf\.[0-9a-f]+",
)


def _group_remarks(
    given: Mapping[str, ImageSet], pool: ImageSet, protocol: SplitProtocol
) -> list[str]:
    """Remarks on images of one origin on both sides of a split."""
    if protocol.group is not None:
        groups = {split: set(_groups(images, protocol.group)) for split, images in given.items()}
        return [
            f"{len(shared):,} groups are in {split} as well as in train, as {min(shared)}"
            for split in groups
            if split != "train" and (shared := groups[split] & groups["train"])
        ]
    if "test" in given and "validation" in given and not protocol.trainval:
        return []
    for pattern in _ORIGINS:
        found = [match[1] for key in given["train"].keys if (match := re.search(pattern, key))]
        if len(set(found)) < len(found) and len(found) >= len(pool) / 2:
            name, count = Counter(found).most_common(1)[0]
            return [
                f"several images are of one origin ({count:,} of {name}), and may be on both sides "
                f"of a split; dataset.group='{pattern}' holds them out together"
            ]
    return []


def _groups(images: ImageSet, pattern: str) -> list[str]:
    """The group of each image: what `pattern` finds in its key, or the key itself."""
    compiled = re.compile(pattern)
    found = ((key, compiled.search(key)) for key in images.keys)
    return [match[match.lastindex or 0] if match else key for key, match in found]


def check_splits(splits: Splits, protocol: SplitProtocol) -> None:
    """Raise what `load_dataset` would about too small classes, without reading an image."""
    unread = {split: listing.images(listing.stamps) for split, listing in splits.present().items()}
    _divide(unread, protocol, SPLIT_SEED)


def _divide(
    given: dict[str, ImageSet], protocol: SplitProtocol, seed: int
) -> tuple[ImageSet, ImageSet, dict[str, ImageSet]]:
    """The pool that train is drawn from, train, and the held-out splits."""
    pool = given["train"]
    if protocol.trainval:
        if "validation" not in given:
            raise ValueError("dataset.trainval=true: the source has no validation split to join")
        pool = join(pool, given["validation"])
        given = {split: images for split, images in given.items() if split != "validation"}
    held: dict[str, ImageSet] = {}
    if not {"test", "validation"} & set(given) and not (protocol.train_per_class or protocol.group):
        both = f"dataset.test={protocol.test} with dataset.validation={protocol.validation}"
        _require(pool, 3, both, MORE_IMAGES)
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
        share = protocol.test
        pool, held["test"] = hold_out(
            pool, share, SPLIT_SEED, option="dataset.test", group=protocol.group
        )
    if "validation" in given:
        held["validation"] = given["validation"]
        if protocol.validation_seed is not None:
            raise ValueError(
                f"dataset.validation_seed={protocol.validation_seed}: the source has a validation "
                "split of its own, of which nothing is drawn; leave it null"
            )
    else:
        share, drawn_by = protocol.validation, protocol.validation_seed or SPLIT_SEED
        pool, held["validation"] = hold_out(
            pool, share, drawn_by, option="dataset.validation", group=protocol.group
        )
    if bare := set(range(len(pool.class_names))) - set(pool.labels):
        names = [pool.class_names[label] for label in sorted(bare)]
        raise ValueError(f"classes without an image to train on: {', '.join(names[:5])}")
    return pool, _cut(pool, protocol, seed), held


def _cut(pool: ImageSet, protocol: SplitProtocol, seed: int) -> ImageSet:
    draw = {"shots": few_shot, "fraction": subset, "imbalance": long_tail}
    for name, value in protocol.cuts.items():
        return draw[name](pool, value, seed)
    return pool


def _train_from(
    given: Mapping[str, ImageSet], protocol: SplitProtocol, places: Mapping[str, str]
) -> str:
    if len(given) == 1:
        where = f" ({places['train']})" if "train" in places else ""
        return f"what is not held out: the source has no splits{where}"
    joined = " and validation" if protocol.trainval else ""
    where = f" ({places['train']})" if "train" in places else ""
    return f"the source's own train{joined} split{where}"


def _held_from(
    split: str,
    given: Mapping[str, ImageSet],
    protocol: SplitProtocol,
    places: Mapping[str, str],
) -> str:
    if split in given and not (split == "validation" and protocol.trainval):
        return "the source's own split" + (f" ({places[split]})" if split in places else "")
    if split == "test" and protocol.train_per_class is not None:
        kept = protocol.train_per_class
        return f"all but {kept} images of each class of train, held out with seed {SPLIT_SEED}"
    share = asdict(protocol)[split]
    groups = " in groups" if protocol.group else ""
    by = protocol.validation_seed if split == "validation" else None
    return f"{share} of each class of train, held out{groups} with seed {by or SPLIT_SEED}"


def few_shot(images: ImageSet, shots: int, seed: int) -> ImageSet:
    """`shots` images of each class, class by class.

    Raises:
        ValueError: if `shots` is not positive, or a class has fewer images.
    """
    if shots < 1:
        raise ValueError(f"dataset.shots={shots} must be 1 or more, or null for all images")
    picked: list[int] = []
    _require(images, shots, f"dataset.shots={shots}", "Take fewer, or null for all images.")
    for members in _drawn(images, seed, "few_shot"):
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
    _require(images, per_class + 1, option, "What is over is the test set.")
    for members in _drawn(images, seed, "hold_out"):
        kept += members[:per_class]
        others += members[per_class:]
    return images.select(kept), images.select(others)


def hold_out(
    images: ImageSet, share: float, seed: int, *, option: str, group: str | None = None
) -> tuple[ImageSet, ImageSet]:
    """The rest, and the `share` of each class that is held out: to the nearest image, and at
    least one; both class by class.

    `option` is the config key of `share`, which the messages name. Images of one `group` (a regular
    expression, see `SplitProtocol`) stay together, so that the shares are met less well.

    Raises:
        ValueError: if `share` is not between 0 and 1, or a class has fewer than two images, or
            fewer than two groups.
    """
    if not 0 < share < 1:
        raise ValueError(f"{option}={share} must be a share of the images, between 0 and 1")
    if group is not None:
        return _hold_out_groups(images, share, seed, option=option, group=group)
    rest: list[int] = []
    held: list[int] = []
    _require(images, 2, f"{option}={share}", MORE_IMAGES)
    for members in _drawn(images, seed, "hold_out"):
        count = min(max(int(share * len(members) + 0.5), 1), len(members) - 1)
        held += members[:count]
        rest += members[count:]
    return images.select(rest), images.select(held)


def _hold_out_groups(
    images: ImageSet, share: float, seed: int, *, option: str, group: str
) -> tuple[ImageSet, ImageSet]:
    members: dict[str, list[int]] = {}
    for index, name in enumerate(_groups(images, group)):
        members.setdefault(name, []).append(index)
    totals = Counter(images.labels)
    wanted = {label: max(share * count, 1) for label, count in totals.items()}
    held: Counter[int] = Counter()
    taken: set[int] = set()
    for name in sorted(members, key=lambda name: derive_seed(seed, "hold_out", name)):
        counts = Counter(images.labels[index] for index in members[name])
        lacking = any(held[label] < wanted[label] for label in counts)
        # No class gives more than half of itself again beyond its share, nor all that it has.
        fits = all(
            held[label] + count <= max(1.5 * wanted[label], 1) or held[label] == 0
            for label, count in counts.items()
        ) and all(held[label] + count < totals[label] for label, count in counts.items())
        if lacking and fits:
            taken.update(members[name])
            held.update(counts)
    if bare := [images.class_names[label] for label in totals if not held[label]]:
        raise ValueError(
            f"class {bare[0]!r} has too few groups to hold out a part ({option}={share}, "
            f"dataset.group={group}): it needs two that are not of all its images"
        )
    rest = [index for index in range(len(images)) if index not in taken]
    return images.select(rest), images.select(sorted(taken))


MORE_IMAGES = (
    "Give them more images, take these classes away, or hold out a part of your own, as folders "
    "test/ and val/ beside train/."
)


def _require(images: ImageSet, least: int, asked: str, advice: str) -> None:
    """Raise a `ValueError`, naming classes, if one has fewer than `least` images."""
    counts = Counter(images.labels)
    names = enumerate(images.class_names)
    if small := [f"{name!r} ({counts[label]:,})" for label, name in names if counts[label] < least]:
        raise ValueError(
            f"{asked} needs {least:,} images of each class to draw from, but {len(small):,} of "
            f"{len(images.class_names):,} classes have fewer: {_few(small)}. {advice}"
        )


def _few(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit:,} more" if len(names) > limit else ""
    )


def _drawn(images: ImageSet, seed: int, purpose: str) -> list[list[int]]:
    """Indices of the images of each class, in an order that depends on `seed` and keys only."""
    members: list[list[int]] = [[] for _ in images.class_names]
    for index, label in enumerate(images.labels):
        members[label].append(index)
    for indices in members:
        indices.sort(key=lambda index: derive_seed(seed, purpose, images.keys[index]))
    return members
