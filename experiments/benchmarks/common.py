"""Common parts of all benchmarks: rounds of all arms, a table, a picture, a file."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sgid.reproducibility import commit, versions

Rounds = dict[str, list[float]]
"""Arm -> its value in each round."""


@dataclass(frozen=True)
class Target:
    """The goal of a ratio or share. `higher` is whether more is better."""

    what: str
    value: float
    reach: float
    higher: bool = True
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.value >= self.reach if self.higher else self.value <= self.reach

    def __str__(self) -> str:
        sign = "≥" if self.higher else "≤"
        value, reach = (_number(number, self.unit) for number in (self.value, self.reach))
        verdict = "met" if self.met else "**missed**"
        return f"{verdict}: {self.what}: {value} (to reach: {sign} {reach})"


def arguments(doc: str | None, **options: Any) -> argparse.Namespace:
    """`--rounds`, `--out`, and an option for each keyword, of the type of its default."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns that each arm has")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    for name, default in options.items():
        kind = type(default) if default is not None else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return parser.parse_args()


def paired(arms: Mapping[str, Callable[[], float]], rounds: int) -> Rounds:
    """Results of each arm, `rounds` times. The arm that is first changes from round to round."""
    names = list(arms)
    values: Rounds = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            values[name].append(arms[name]())
            print(f"round {turn + 1}/{rounds}  {name}: {values[name][-1]:.4g}", flush=True)
    return values


def ratio(values: Rounds, over: str, under: str) -> float:
    """The median over the rounds of one arm's value divided by another's in the same round."""
    return statistics.median(a / b for a, b in zip(values[over], values[under], strict=True))


def rates(values: Rounds, against: str, unit: str) -> str:
    """A Markdown table: the median of each arm, its range, and its ratio to `against`."""
    rows = []
    for name, rounds in values.items():
        spread = f"{min(rounds):.4g} – {max(rounds):.4g}"
        times = "" if name == against else f"{ratio(values, name, against):.2f}×"
        rows.append((name, f"{statistics.median(rounds):.4g}", spread, times))
    return table(("arm", f"{unit} (median)", "range", f"against {against}"), rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def bars(values: Rounds, label: str) -> Any:
    """A bar for each arm's median, its rounds as dots."""
    from matplotlib.figure import Figure

    from sgid.reporting.figures import BLACK, BLUE

    figure = Figure(figsize=(6.4, 0.9 + 0.34 * len(values)), layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    axes.barh(names, [statistics.median(values[name]) for name in names], color=BLUE, alpha=0.75)
    for y, name in enumerate(names):
        axes.plot(values[name], [y] * len(values[name]), ".", color=BLACK, markersize=4)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def finish(
    name: str,
    out: Path,
    *,
    title: str,
    body: str,
    targets: Sequence[Target],
    figure: Any,
    data: Mapping[str, Any],
) -> None:
    """Print the table and leave `name`.md, .png and .json (the raw values) in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    where = machine()
    said = "\n".join(f"- {target}" for target in targets)
    text = f"# {title}\n\n{body}\n\n{said}\n\n![]({name}.png)\n\n{_sentence(where)}\n"
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    figure.savefig(out / f"{name}.png", dpi=150)
    raw = {"machine": where, **data}
    (out / f"{name}.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print(f"\n{text}\nwritten: {out / name}.md, .png, .json")


def machine() -> dict[str, Any]:
    """The machine, its software, and the date."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _sentence(where: Mapping[str, Any]) -> str:
    on = where["gpu"] or f"{where['processor']}, {where['cores']} cores, {where['threads']} threads"
    torch, diffusers = where["versions"]["torch"], where["versions"]["diffusers"]
    return f"{where['date']}, {on}, torch {torch}, diffusers {diffusers}, commit {where['commit']}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _number(value: float, unit: str) -> str:
    return f"{value:.0%}" if unit == "%" else f"{value:.2f}{'×' if unit == 'x' else ' ' + unit}"
