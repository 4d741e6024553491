"""Everything that can be wrong is looked for before any work is begun, and told in one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from sgid.config import Config, WeightsConfig
from sgid.data.listing import Splits
from sgid.weights import Located, locate

SLOTS = ("offline", "online", "batch")
GUIDANCE_LIMIT = 30.0


@dataclass(frozen=True)
class Ready:
    """What was found: the images listed, and where the weights of each model lie."""

    splits: Splits
    weights: dict[str, Located]


def check(config: Config) -> Ready:
    """Raises ValueError for values out of range, else FileNotFoundError for all that is missing."""
    if wrong := _out_of_range(config):
        raise ValueError("\n".join(wrong))
    from sgid.data import datasets

    problems: list[str] = []

    def attempt(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except FileNotFoundError as error:
            problems.append(str(error))
        except InstantiationException as error:  # how Hydra hands on what a source raises
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            problems.append(str(error.__cause__))

    splits = attempt(lambda: instantiate(config.dataset.source))
    wanted = _wanted(config)
    weights = {name: attempt(lambda name=name: _locate(name, wanted[name])) for name in wanted}
    if problems:
        count = f"{len(problems)} things are" if len(problems) > 1 else "One thing is"
        raise FileNotFoundError(f"{count} missing:\n\n" + "\n\n".join(problems))
    dataset = config.dataset
    datasets.check(splits, shots=dataset.shots, validation=dataset.validation, test=dataset.test)
    return Ready(splits, weights)


def in_slot(config: Config, slot: str) -> dict[str, dict[str, Any]]:
    """The chosen augmentations of one slot, in the order given, without the slot itself."""
    return {
        name: {key: value for key, value in entry.items() if key != "slot"}
        for name, entry in config.aug.items()
        if entry and entry["slot"] == slot
    }


def _wanted(config: Config) -> dict[str, WeightsConfig]:
    """Config key -> weights, of the models that this run uses."""
    wanted = {}
    if recipes := in_slot(config, "offline"):
        models = config.models
        wanted["models.generator"] = models.generator.weights
        wanted["models.scorer"] = models.scorer.weights
        if any("{caption}" in recipe["prompt"] for recipe in recipes.values()):
            wanted["models.captioner"] = models.captioner.weights
    if config.backbone.weights is not None:
        wanted["backbone"] = config.backbone.weights
    return wanted


def _locate(name: str, weights: WeightsConfig) -> Located:
    return locate(**asdict(weights), option=f"{name}.weights")


def _out_of_range(config: Config) -> list[str]:
    from sgid.semantics import prompts

    wrong = []

    def need(good: bool, option: str, value: Any, rule: str) -> None:
        if not good:
            wrong.append(f"{option}={value}: {rule}")

    need(0 < config.noise_rate <= 1, "noise_rate", config.noise_rate, "must be above 0, at most 1")
    need(config.expansion >= 1, "expansion", config.expansion, "must be at least 1")
    need(config.steps >= 1, "steps", config.steps, "must be at least 1")
    if 0 < config.noise_rate <= 1 <= config.steps:
        need(
            int(config.steps * config.noise_rate) >= 1,
            "noise_rate",
            config.noise_rate,
            f"with steps={config.steps} no step would be run; raise either",
        )
    guidance = {
        key: config.guidance[key] for key in ("scale", "min", "max") if key in config.guidance
    }
    for key, value in guidance.items():
        need(
            isinstance(value, int | float) and 0 <= value <= GUIDANCE_LIMIT,
            f"guidance.{key}",
            value,
            f"must be a number from 0 to {GUIDANCE_LIMIT:g}",
        )
    if not wrong and {"min", "max"} <= guidance.keys():
        need(
            guidance["min"] <= guidance["max"],
            "guidance.min",
            guidance["min"],
            f"must not be above guidance.max={guidance['max']}",
        )
    for part in ("validation", "test"):
        value = getattr(config.dataset, part)
        need(0 < value < 1, f"dataset.{part}", value, "must be a share between 0 and 1")
    need(0 <= config.dataset.max_bad <= 1, "dataset.max_bad", config.dataset.max_bad, "0 to 1")
    shots = config.dataset.shots
    need(shots is None or shots >= 1, "dataset.shots", shots, "must be at least 1, or null")
    need(config.models.captioner.candidates >= 1, "models.captioner.candidates",
         config.models.captioner.candidates, "must be at least 1")  # fmt: skip
    need(0 < config.models.captioner.top_p <= 1, "models.captioner.top_p",
         config.models.captioner.top_p, "must be above 0, at most 1")  # fmt: skip
    need(config.store.shard_size >= 1, "store.shard_size", config.store.shard_size, "at least 1")
    need(config.store.format in ("png", "webp", "jpeg"), "store.format", config.store.format,
         "one of png, webp, jpeg")  # fmt: skip
    for name, entry in config.aug.items():
        need(not entry or entry.get("slot") in SLOTS, f"aug.{name}.slot",
             (entry or {}).get("slot"), f"one of {', '.join(SLOTS)}")  # fmt: skip
    for name, recipe in in_slot(config, "offline").items():
        try:
            prompts.fields(recipe["prompt"])
        except ValueError as error:
            wrong.append(f"aug.{name}.prompt: {error}")
    return wrong
