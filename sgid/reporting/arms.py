"""Arms of an experiment: the runs that differ in their seed alone, and the baseline of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sgid.evaluation.statistics import Estimate, paired_difference
from sgid.reporting.format import ABSENT, value_text
from sgid.reporting.results import Result
from sgid.reproducibility import fingerprint

# The augmentation that all others are measured against, and have beneath them without naming it.
BASELINE = "flip_crop"


# Its options, as they are beneath the others. `sgid.training.transforms` has them as defaults,
# but PyTorch can no longer be imported when the table of a sweep that failed is made.
PLAIN = {"padding": 0.125, "area": [0.25, 1.0], "flip": 0.5}


# Decides where and how a run is computed, and at most which random numbers it draws.
INCIDENTAL = (
    *("seed", "stage", "paths", "logger", "evaluation", "cluster", "allow_targets"),
    *("store.shard_size", "store.verify"),
    # Where images lie: `dataset.images` says which they are.
    *("dataset.root", "dataset.download"),
    *(f"dataset.source.{key}" for key in ("root", "download")),
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


def entry(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the config says of one augmentation; of `flip_crop` only what is not its default.

    A run has `flip_crop` in its config only where it is all that it has.
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
    """All that determines a result but the seed, as dotted keys.

    `aug` is the run's augmentations, or those of them that another run would keep.
    """
    kept = {**config, "aug": {name: entry(config, name) for name in aug}}
    ignored = INCIDENTAL if generates(config, aug) else INCIDENTAL + GENERATION
    flat = {
        key: value
        for key, value in flatten(kept).items()
        if not any(key == one or key.startswith(f"{one}.") for one in ignored)
    }
    return {**flat, "aug": list(aug)}


def arm(config: Mapping[str, Any], aug: Sequence[str]) -> str:
    """Runs of the same arm have the same arm string and differ by their seed."""
    # What older results do not have is null in newer ones, where it is not used.
    return fingerprint({k: v for k, v in settings(config, aug).items() if v is not None})


def is_baseline(result: Result) -> bool:
    """Whether it has `flip_crop` alone, as the others have it: its options not changed."""
    return result.aug == (BASELINE,) and not entry(result.config, BASELINE)


def find_baseline(result: Result, results: Sequence[Result]) -> Result | None:
    """The run that is like `result` in all, seed included, but for `aug=flip_crop`.

    The baseline itself has none.
    """
    if is_baseline(result):
        return None
    return _find(result, results, {**result.config, "aug": {}}, [BASELINE])


def find_perturbed(result: Result, results: Sequence[Result]) -> Result | None:
    """For a run that combines generated images with perturbation: its like without the images."""
    perturbations = [name for name in result.aug if not generates(result.config, [name])]
    if not perturbations or len(perturbations) == len(result.aug):
        return None
    return _find(result, results, result.config, perturbations)


def varying(results: Sequence[Result]) -> list[str]:
    """The dotted config keys that differ among runs and that no choice of a group accounts for.

    A learning rate that comes with a backbone is not worth a column beside the backbone's name.
    What may depend on the augmentation's name is only what the augmentation itself consists of:
    were the arms of one dataset given different `dataset.shots`, it has to be seen.
    """
    flats = [settings(result.config, result.aug) for result in results]
    keys = list(dict.fromkeys(key for flat in flats for key in flat if key != "aug"))
    found: list[str] = []
    for key in keys:
        own = key.startswith("aug.") or key.split(".")[0] in GENERATION
        by_choice: dict[str, set[str]] = {}
        for result, flat in zip(results, flats, strict=True):
            groups = [str(result.choices.get(group)) for group in GROUPS]
            choice = json.dumps([groups, result.aug if own else None])
            by_choice.setdefault(choice, set()).add(json.dumps(flat.get(key)))
        # An augmentation that reads `${noise_rate}` repeats it.
        copied = key.startswith("aug.") and any(
            all(flat.get(other) == flat[key] for flat in flats if key in flat) for other in found
        )
        if any(len(values) > 1 for values in by_choice.values()) and not copied:
            found.append(key)
    return found


def _find(
    result: Result, results: Sequence[Result], config: Mapping[str, Any], aug: Sequence[str]
) -> Result | None:
    wanted = arm(config, aug)
    for other in reversed(results):
        same = other.seed == result.seed and other.aug == tuple(aug)
        if same and arm(other.config, other.aug) == wanted:
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
    """The choices of a group that some row was made with, in order."""
    return list(dict.fromkeys(made for row in rows if (made := choice(row[0], group)) is not None))


def fixed(rows: Sequence[Row]) -> list[str]:
    """`dataset cars`, `models sd15`: the choices that are the same in all rows."""
    made = {group: choices(rows, group) for group in GROUPS}
    return [f"{group} {names[0]}" for group, names in made.items() if len(names) == 1]


def setting(result: Result, key: str) -> str:
    """The value of a dotted config key that `varying` has found."""
    values = settings(result.config, result.aug)
    return value_text(values[key]) if key in values else ABSENT


def difference(row: Row, results: Sequence[Result], partner: Partner) -> Estimate:
    """Test top-1 minus the partners', in points, paired over equal seeds; `n` = 0 without any."""
    found = [(result, partner(result, results)) for result in row]
    pairs = [(a.metrics["test/top1"], b.metrics["test/top1"]) for a, b in found if b is not None]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs])
