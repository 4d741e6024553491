"""The chosen augmentations, slot by slot, as the stages take them.

An entry of `conf/aug/` says which slot it fills: `offline` (a generative method), `base` (what all
training images go through first), `online` (per image), or `batch` (Mixup and its like).
"""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate

from sgid.config import Config
from sgid.generation.recipes import Recipe

SLOTS = ("offline", "base", "online", "batch")


def in_slot(config: Config, slot: str) -> dict[str, dict[str, Any]]:
    """The chosen augmentations of one slot, in the order given, without the slot itself."""
    return {
        name: {key: value for key, value in entry.items() if key != "slot"}
        for name, entry in config.aug.items()
        if entry and entry.get("slot") == slot
    }


def recipes(config: Config) -> list[Recipe]:
    """The generative methods, in the order given."""
    return [
        Recipe(name, **{**entry, "guidance": instantiate(entry["guidance"])})
        for name, entry in in_slot(config, "offline").items()
    ]


def transforms(config: Config, slot: str) -> list[Any]:
    """What the augmentations of `base`, `online` or `batch` name as their transform."""
    return [instantiate(entry["transform"]) for entry in in_slot(config, slot).values()]
