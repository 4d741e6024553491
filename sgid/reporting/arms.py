"""Arms of an experiment: the runs that differ in their seed alone, and the baseline of each.

Runs of one arm, and runs that are compared, have the same images: the same pool that the training
images are drawn from, the same validation and test images, with the same labels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import PurePath
from typing import Any

from sgid.evaluation.statistics import Estimate, paired_difference
from sgid.models.scope import limits
from sgid.reporting.format import ABSENT, value_text
from sgid.reporting.results import Result
from sgid.reproducibility import fingerprint

BASELINE = "flip_crop"
"""The augmentation that all others are compared with, and include without naming it."""

# Its options, as the others include them. `sgid.training.transforms` has them as defaults,
# but PyTorch can no longer be imported when the table of a sweep that failed is made.
PLAIN = {"padding": 0.125, "area": [0.25, 1.0], "flip": 0.5}

IMAGES = "dataset.images"
"""The setting that identifies the images of a run: `Dataset.fingerprint`."""

# Decides where and how a run is computed, and at most which random numbers it draws.
INCIDENTAL = (
    *("seed", "stage", "paths", "logger", "evaluation", "review", "export", "cluster"),
    "advise",
    *(f"models.{key}" for key in ("knows", "known", "seen")),
    "allow_targets",
    *("store.path", "store.shard_size", "store.verify"),
    # Where images lie: `IMAGES` identifies them.
    *(f"dataset.{key}" for key in ("root", "download", "show", "strict", "max_bad", "licence")),
    *(f"dataset.source.{key}" for key in ("root", "id", "download")),
    *(f"trainer.{key}" for key in ("device", "workers", "cache_gib", "compile")),
    *(f"models.{model}.batch_size" for model in ("captioner", "scorer", "generator")),
    "models.generator.compile",
)

# Read by nothing in a run that generates no images.
GENERATION = ("noise_rate", "expansion", "steps", "mix", "store", "models", "guidance", "filter")

# The config groups, in the order of their columns.
GROUPS = ("dataset", "backbone", "models", "guidance", "filter")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config as dotted keys, `{"guidance.max": 7.5}`. Lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def generates(config: Mapping[str, Any], aug: Iterable[str]) -> bool:
    """Whether any of these augmentations adds generated images."""
    return any(entry(config, name).get("slot") == "offline" for name in aug)


def limits_of(results: Iterable[Result]) -> list[str]:
    """Sentences on what results do not show, because of the models that they rest on."""
    told = (
        line
        for one in results
        for line in limits(
            one.config["models"],
            one.config["dataset"]["name"],
            generates=generates(one.config, one.aug),
        )
    )
    return list(dict.fromkeys(told))


def entry(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The config of one augmentation; of `flip_crop` only the options that are not its default.

    A run has `flip_crop` in its config only where it has no other augmentation.
    """
    if name != BASELINE:
        return config["aug"][name]
    transform = (config["aug"].get(name) or {}).get("transform", {})
    changed = {
        key: value
        for key, value in transform.items()
        if not key.startswith("_") and (key not in PLAIN or PLAIN[key] != value)
    }
    return {"transform": changed} if changed else {}


def settings(config: Mapping[str, Any], aug: Sequence[str]) -> dict[str, Any]:
    """All settings that determine a result but the seed, as dotted keys.

    `aug` are the run's augmentations, or those of them that another run would have.
    """
    config = {**config, "aug": {name: entry(config, name) for name in aug}}
    ignored = INCIDENTAL if generates(config, aug) else INCIDENTAL + GENERATION
    flat = {
        key: value
        for key, value in flatten(config).items()
        if not any(key == one or key.startswith(f"{one}.") for one in ignored)
        and (key, value) != ("models.generator.memory", "low")  # the same images
    }
    return {**flat, "aug": list(aug)}


def arm(config: Mapping[str, Any], aug: Sequence[str]) -> str:
    """Identifies an arm: the same for runs that differ in their seed alone."""
    return _identity(settings(config, aug))


def _identity(flat: Mapping[str, Any]) -> str:
    # An option that is not used is null, or is not there.
    return fingerprint({key: value for key, value in flat.items() if value is not None})


def is_baseline(result: Result) -> bool:
    """Whether it has `flip_crop` alone, as the others have it: its options not changed."""
    return result.aug == (BASELINE,) and not entry(result.config, BASELINE)


def find_baseline(result: Result, results: Sequence[Result]) -> Result | None:
    """The run with `aug=flip_crop` and all else equal, seed and images included.

    The baseline itself has none.
    """
    if is_baseline(result):
        return None
    return _find(result, results, {**result.config, "aug": {}}, [BASELINE])


def baseline_of_other_images(result: Result, results: Sequence[Result]) -> Result | None:
    """The run that `find_baseline` would give, had the images of its folder not changed since."""
    root = result.config["dataset"].get("root")
    same = [one for one in results if one.config["dataset"].get("root") == root]
    return _find(result, same, {**result.config, "aug": {}}, [BASELINE], any_images=True)


def find_perturbed(result: Result, results: Sequence[Result]) -> Result | None:
    """The run without generated images and all else equal, for one that adds a perturbation."""
    perturbations = [name for name in result.aug if not generates(result.config, [name])]
    if not perturbations or len(perturbations) == len(result.aug):
        return None
    return _find(result, results, result.config, perturbations)


def varying(results: Sequence[Result]) -> list[str]:
    """The dotted config keys that differ among runs of the same choices of all groups.

    A learning rate that comes with a backbone needs no column next to the backbone's name. Only
    the options of an augmentation may depend on its name: if arms of one dataset had different
    `dataset.shots`, that has to be seen.
    """
    flats = [settings(result.config, result.aug) for result in results]
    keys = list(dict.fromkeys(key for flat in flats for key in flat if key != "aug"))
    differing: list[str] = []
    for key in keys:
        own = key.startswith("aug.") or key.split(".")[0] in GENERATION
        by_choice: dict[str, set[str]] = {}
        for result, flat in zip(results, flats, strict=True):
            groups = [str(result.choices.get(group)) for group in GROUPS]
            choice = json.dumps([groups, result.aug if own else None])
            by_choice.setdefault(choice, set()).add(json.dumps(flat.get(key)))
        # An augmentation that reads `${noise_rate}` repeats it.
        copied = key.startswith("aug.") and any(
            all(flat.get(other) == flat[key] for flat in flats if key in flat)
            for other in differing
        )
        if any(len(values) > 1 for values in by_choice.values()) and not copied:
            differing.append(key)
    return [key for key in differing if key != IMAGES or not _follows(results, flats, differing)]


def _follows(
    results: Sequence[Result], flats: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> bool:
    """Whether the images follow from the other `keys` of the dataset, such as its splits."""
    others = [key for key in keys if key.startswith("dataset.") and key != IMAGES]
    seen: dict[str, set[str]] = {}
    for result, flat in zip(results, flats, strict=True):
        cause = json.dumps([result.choices.get("dataset"), *(flat.get(key) for key in others)])
        seen.setdefault(cause, set()).add(str(flat.get(IMAGES)))
    return all(len(images) == 1 for images in seen.values())


def image_names(results: Sequence[Result]) -> dict[str, str]:
    """Names of the images of each run, by their `IMAGES`: the folder, or else the dataset.

    Of a path, as many last parts as tell all of them apart; the same folder with other images, as
    after some were added, has the beginning of `IMAGES` in brackets.
    """
    places: dict[str, tuple[str, ...]] = {}
    for result in results:
        data = result.config["dataset"]
        if "images" in data:
            place = data.get("root") or str(data.get("name"))
            places.setdefault(data["images"], PurePath(place).parts)
    apart = set(places.values())
    parts = next(n for n in count(1) if len({place[-n:] for place in apart}) == len(apart))
    names = {images: str(PurePath(*place[-parts:])) for images, place in places.items()}
    repeated = Counter(names.values())
    return {
        images: f"{name} ({images[:8]})" if repeated[name] > 1 else name
        for images, name in names.items()
    }


def _find(
    result: Result,
    results: Sequence[Result],
    config: Mapping[str, Any],
    aug: Sequence[str],
    *,
    any_images: bool = False,
) -> Result | None:
    """The latest run of the seed of `result` with this config and these augmentations."""

    def identity(config: Mapping[str, Any]) -> str:
        ignored = {IMAGES: None} if any_images else {}
        return _identity({**settings(config, aug), **ignored})

    wanted = identity(config)
    for other in reversed(results):
        same = other.seed == result.seed and other.aug == tuple(aug)
        if same and identity(other.config) == wanted:
            return other
    return None


Row = Sequence[Result]
Partner = Callable[[Result, Sequence[Result]], Result | None]

CHOSEN_NOTE = (
    "The best checkpoint is chosen on the validation part; the test set is touched once, by it."
)


def rows_of(results: Sequence[Result]) -> list[Row]:
    """The arms in the order in which they first appear; of equal seeds the later run counts."""
    arms: dict[str, dict[int, Result]] = {}
    for result in results:
        arms.setdefault(arm(result.config, result.aug), {})[result.seed] = result
    return [list(seeds.values()) for seeds in arms.values()]


def choice(result: Result, group: str) -> str | None:
    """The choice of a config group, `None` where it changes nothing."""
    unread = group in GENERATION and not generates(result.config, result.aug)
    return None if unread or group not in result.choices else value_text(result.choices[group])


def choices(rows: Iterable[Row], group: str) -> list[str]:
    """The choices of a group among the rows, in order."""
    return list(dict.fromkeys(one for row in rows if (one := choice(row[0], group)) is not None))


def fixed(rows: Sequence[Row]) -> list[str]:
    """`dataset cars`, `models sd15`: the choices that are the same in all rows."""
    chosen = {group: choices(rows, group) for group in GROUPS}
    return [f"{group} {names[0]}" for group, names in chosen.items() if len(names) == 1]


def setting(result: Result, key: str, names: Mapping[str, str]) -> str:
    """The value of a dotted config key, one of those that `varying` gives.

    `names` are the names of images, from `image_names`.
    """
    values = settings(result.config, result.aug)
    if key == IMAGES:
        return names.get(values.get(key, ""), ABSENT)
    return value_text(values[key]) if key in values else ABSENT


def difference(row: Row, results: Sequence[Result], partner: Partner) -> Estimate:
    """Test top-1 minus the partners', in points, paired over equal seeds; `n` = 0 without any."""
    pairs = [(result, partner(result, results)) for result in row]
    pairs = [(a.metrics["test/top1"], b.metrics["test/top1"]) for a, b in pairs if b is not None]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs])
