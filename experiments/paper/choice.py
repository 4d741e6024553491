"""The choice among settings by the validation part; the test part plays no role."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from experiments.paper.contrasts import top1
from sgid.reporting.results import Result

Key = TypeVar("Key")
Seeds = Mapping[int, Result]


def complete(runs: Mapping[Key, Seeds]) -> dict[Key, Seeds]:
    """The settings with every seed that any has, so that none looks good for an easier seed."""
    seeds = {seed for one in runs.values() for seed in one}
    return {key: one for key, one in runs.items() if seeds == set(one)}


def chosen(runs: Mapping[Key, Seeds]) -> Key | None:
    """The setting with the best mean validation top-1; of equal ones the first, if there is one."""
    values = {key: top1(one, "validation").value for key, one in runs.items()}
    known = {key: value for key, value in values.items() if math.isfinite(value)}
    return max(known, key=lambda key: known[key]) if known else None
