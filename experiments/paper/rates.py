"""Speed of this machine, from finished runs and stores on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from experiments.paper.cells import Wanted
from sgid.reporting.results import Result


@dataclass(frozen=True)
class Rates:
    """Medians: `seconds` of training and testing by backbone, and `images` per second of a process.

    `runs` and `stores` are how many they rest on; what was never measured is absent.
    """

    seconds: Mapping[str, float]
    images: float | None
    runs: int
    stores: int


def measured(results: Sequence[Result], stores: Iterable[Wanted]) -> Rates:
    """Rates measured by finished runs and by complete stores of more than one shard."""
    seconds: dict[str, list[float]] = {}
    for result in results:
        if {"train", "evaluate"} <= result.seconds.keys():
            took = result.seconds["train"] + result.seconds["evaluate"]
            seconds.setdefault(result.config["backbone"]["name"], []).append(took)
    there = {store.folder: store for store in stores if store.complete}
    images = [rate for store in there.values() if (rate := _rate(store))]
    return Rates(
        seconds={name: median(values) for name, values in seconds.items()},
        images=median(images) if images else None,
        runs=sum(map(len, seconds.values())),
        stores=len(images),
    )


def _rate(store: Wanted) -> float | None:
    """Images per second after the first shard; the first also waited for captions and models."""
    manifest = json.loads((store.folder / "manifest.json").read_text(encoding="utf-8"))
    parts = manifest["parts"]
    ended = [(store.folder / part["file"]).stat().st_mtime for part in parts]
    took = max(ended) - min(ended)
    return (manifest["rows"] - parts[0]["rows"]) / took if took > 0 else None
