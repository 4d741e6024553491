"""What makes two runs the same arm of an experiment, and which run another is measured against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgid.fingerprint import fingerprint
from sgid.reporting.results import Result

# Decides where and how a run is computed, not what comes of it.
INCIDENTAL = (
    *("seed", "stage", "paths", "logger", "store.shard_size"),
    *(f"trainer.{key}" for key in ("device", "workers", "cache_gib")),
    *(f"models.{model}.batch_size" for model in ("captioner", "scorer", "generator")),
)
# Read by nothing in a run that generates no images.
GENERATION = ("noise_rate", "expansion", "steps", "mix", "store", "models", "guidance")
# The config groups, in the order of their columns.
GROUPS = ("dataset", "backbone", "models", "guidance")


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
    return any(config["aug"][name].get("slot") == "offline" for name in aug)


def settings(config: Mapping[str, Any], aug: Sequence[str]) -> dict[str, Any]:
    """All that determines a result but the seed, as dotted keys.

    `aug` is the run's augmentations, or those of them that another run would keep.
    """
    kept = {**config, "aug": {name: config["aug"][name] for name in aug}}
    ignored = INCIDENTAL if generates(config, aug) else INCIDENTAL + GENERATION
    flat = {
        key: value
        for key, value in flatten(kept).items()
        if not any(key == one or key.startswith(f"{one}.") for one in ignored)
    }
    return {**flat, "aug": list(aug)}


def arm(config: Mapping[str, Any], aug: Sequence[str]) -> str:
    """Runs of the same arm have the same arm string and differ by their seed."""
    return fingerprint(settings(config, aug))


def find_baseline(result: Result, results: Sequence[Result]) -> Result | None:
    """The run that is like `result` in all, seed included, but for `aug=none`."""
    return _find(result, results, ()) if result.aug else None


def find_perturbed(result: Result, results: Sequence[Result]) -> Result | None:
    """For a run that combines generated images with perturbation: its like without the images."""
    perturbations = [name for name in result.aug if not generates(result.config, [name])]
    if not perturbations or len(perturbations) == len(result.aug):
        return None
    return _find(result, results, perturbations)


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
        rows = [(r, f) for r, f in zip(results, flats, strict=True) if key in f]
        own = key.startswith("aug.") or key.split(".")[0] in GENERATION
        by_choice: dict[str, set[str]] = {}
        for result, flat in rows:
            groups = [str(result.choices.get(group)) for group in GROUPS]
            choice = json.dumps([groups, result.aug if own else None])
            by_choice.setdefault(choice, set()).add(json.dumps(flat[key]))
        # An augmentation that reads `${noise_rate}` repeats it.
        copied = key.startswith("aug.") and any(
            all(flat.get(other) == flat[key] for _, flat in rows) for other in found
        )
        if any(len(values) > 1 for values in by_choice.values()) and not copied:
            found.append(key)
    return found


def _find(result: Result, results: Sequence[Result], aug: Sequence[str]) -> Result | None:
    wanted = arm(result.config, aug)
    for other in reversed(results):
        same = other.seed == result.seed and other.aug == tuple(aug)
        if same and arm(other.config, other.aug) == wanted:
            return other
    return None
