"""Measures of generated images, averaged over the runs that generated them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from sgid.evaluation.statistics import Estimate, mean_interval
from sgid.reporting.format import signed
from sgid.reporting.results import Result


def generative(results: Sequence[Result]) -> list[Result]:
    """The runs that trained on the images of one method, and with nothing else."""
    return [result for result in results if len(result.generated) == len(result.aug) == 1]


def measured(runs: Iterable[Result], name: str) -> Estimate:
    """The mean over seeds of a measure; a store that several runs used counts once, by its name.

    It is NaN where nothing was measured.
    """
    stores = {PurePath(run.generated[0].path).name: run.generated[0] for run in runs}
    values = [found for one in stores.values() if (found := one.measures.get(name)) is not None]
    return mean_interval(values) if values else Estimate(math.nan, math.nan, math.nan, 0)


def by_method(results: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """The runs that trained on one method's images: by dataset, by method."""
    found: dict[str, dict[str, list[Result]]] = {}
    for run in generative(results):
        methods = found.setdefault(str(run.choices["dataset"]), {})
        methods.setdefault(run.generated[0].method, []).append(run)
    return found


def estimate_text(estimate: Estimate, digits: int) -> str:
    """`0.9360 ± 0.0021`, without ± where there is no interval."""
    text = f"{estimate.value:.{digits}f}"
    half = estimate.half_width
    return text if math.isnan(half) else f"{text} ± {half:.{digits}f}"


def rank_correlation(pairs: Sequence[tuple[float, float]], name: str, of: str) -> str | None:
    """Rank correlation of accuracy and a metric, from pairs of both; `None` for fewer than four.

    Spearman's, over what was tried (`of`). These share images and seeds and are no sample of
    anything: there is no p.
    """
    from scipy import stats

    if len(pairs) < 4 or any(len(set(values)) < 2 for values in zip(*pairs, strict=True)):
        return None
    found: Any = stats.spearmanr([a for a, _ in pairs], [b for _, b in pairs])
    return (
        f"Accuracy and {name}: Spearman's ρ = {signed(float(found.statistic))} over {len(pairs)} "
        f"{of}: described, not tested."
    )
