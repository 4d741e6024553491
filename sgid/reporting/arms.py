"""What makes two runs the same arm of an experiment, and which run another is measured against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgid.reporting.results import Result
from sgid.reproducibility import fingerprint

# The augmentation that all others are measured against, and have beneath them without naming it.
BASELINE = "flip_crop"
# Its options, as they are beneath the others. `sgid.augmentation.transforms` has them as defaults,
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
