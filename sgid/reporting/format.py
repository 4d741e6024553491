"""Text forms of numbers, intervals, p-values, options and commands in tables and reports."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sgid.config.help import typed_flags
from sgid.evaluation.statistics import Estimate
from sgid.reporting.results import Example, Result
from sgid.runtime.terminal import program

ABSENT = "–"


def signed(value: float, digits: int = 2) -> str:
    """`+1.20` or `−1.20`, with a true minus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def mean_text(estimate: Estimate) -> str:
    """`73.20 ± 1.20`, without ± where there is no interval."""
    if math.isnan(estimate.half_width):
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ± {estimate.half_width:.2f}"


def difference_text(estimate: Estimate, p: float) -> str:
    """`+1.20 ± 0.80, p = .012`, without the parts that are unknown."""
    text = signed(estimate.value)
    if not math.isnan(estimate.half_width):
        text += f" ± {estimate.half_width:.2f}"
    return text if math.isnan(p) else f"{text}, {p_text(p)}"


def p_text(p: float) -> str:
    """`p = .012`, or `p < .001`."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("= 0.", "= .")


def value_text(value: Any) -> str:
    """A config value as it would be written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{value_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(value_text, value)) + "]"
    return str(value)


def aug_text(aug: Sequence[str]) -> str:
    """`sgid + randaugment`"""
    return " + ".join(aug)


def call_text(node: Mapping[str, Any]) -> str:
    """A config node as the call it stands for: `averaged(of=linear(min=3, max=7.5))`, `label`."""
    arguments = [
        f"{key}={call_text(one) if isinstance(one, Mapping) else value_text(one)}"
        for key, one in node.items()
        if not key.startswith("_")
    ]
    name = str(node.get("_target_", "")).rpartition(".")[2]
    return f"{name}({', '.join(arguments)})" if arguments else name


def sizes_text(protocols: Sequence[Mapping[str, Any]]) -> str:
    """`train 80–160, validation 40, test 1,000`: how many images one or many runs had."""
    parts = []
    for part in ("train", "validation", "test"):
        if sizes := [protocol[part] for protocol in protocols if part in protocol]:
            ends = dict.fromkeys([min(sizes), max(sizes)])
            parts.append(f"{part} {'–'.join(f'{size:,}' for size in ends)}")
    return ", ".join(parts)


def steering_text(example: Example) -> str:
    """Method, similarity, guidance scale and strength of an example, those that it has."""
    figures = {
        "similarity": (example.similarity, ".3f"),
        "guidance": (example.guidance_scale, ".2f"),
        "strength": (example.strength, "g"),
    }
    texts = [
        f"{name} {value:{form}}"
        for name, (value, form) in figures.items()
        if value is not None and math.isfinite(value)
    ]
    return f"{example.method}: {', '.join(texts)}" if texts else example.method


def command(overrides: Sequence[str], *, sweep: bool = False) -> str:
    """The line to type for a run, or a sweep of runs, with these overrides.

    Config folders that this process was given are in it.
    """
    return f"{program()} {shlex.join([*(['-m'] if sweep else []), *typed_flags(), *overrides])}"


def run_command(result: Result, *, sweep: bool = False, **changed: str) -> str:
    """The line that repeats a run, or makes it again with something `changed`, e.g. `aug="none"`.

    It is made of the run's own overrides, or of its choices where those were not kept.
    """
    choices = [f"{group}={value_text(choice)}" for group, choice in result.choices.items()]
    overrides = list(result.overrides) or [*choices, f"seed={result.seed}"]
    kept = [one for one in overrides if one.partition("=")[0].split(".")[0] not in changed]
    return command([*kept, *(f"{key}={value}" for key, value in changed.items())], sweep=sweep)
