"""Is SGID the best augmentation, and by how much does it lead the best baseline?

The paper's main table: datasets × three backbones × all augmentations.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.charts.forest import forest
from experiments.charts.rank_line import rank_line
from experiments.paper.arms import BASE, FURTHER, GENERATIVE, PERTURBATIONS, SGID
from experiments.paper.backbones import over_backbones, ranking, ranks_said
from experiments.paper.contrasts import (
    blocks,
    compare,
    drawn,
    panels,
    table,
    tally,
    tested,
)
from experiments.paper.grid import Sweep
from experiments.paper.leads import base, gains, lead_said, lead_table, over_best
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.reporting.arms import BASELINE
from sgid.reporting.comparison import comparison_table, matrix_table
from sgid.reporting.results import Result
from sgid.reporting.table import Table

TITLE = "All augmentations"
# Columns that fit on a page.
COLUMNS = 7


def grid(scale: Scale) -> list[Sweep]:
    # The last is SGID on the base that `none` has, for where that is the best baseline.
    augmentations = [*BASE, *PERTURBATIONS, *GENERATIVE, *FURTHER, *SGID, "[none,sgid]"]
    return [scale.sweep(augmentations, {"backbone": scale.backbones})]


def render(results: Sequence[Result]) -> Page:
    if not results:
        return Page()
    leads, bases = compare(results, over_best), compare(results, base)
    single, mean = compare(results, gains), over_backbones(results, gains)
    findings = [lead_said(one, bases) for one in drawn(leads)]
    tables, figures, captions = _accuracy(results), {}, {}
    if leads:
        tables["lead"] = lead_table(leads)
    across = f"test top-1 minus {BASELINE} (points)"
    if mean:
        names = ("augmentation", "test top-1 (%)", BASELINE, "difference (points)")
        findings.append(f"Against {BASELINE}, over the backbones: {tally(mean, 'better', 'worse')}")
        tables["backbones"] = table(mean, f"Difference to {BASELINE}, over the backbones", names)
        figures["gains"] = forest(panels(mean), across=across)
        captions["gains"] = (
            f"What each augmentation adds to {BASELINE}, the backbones of each seed averaged, "
            f"{tested(mean)}"
        )
    if single:
        each = "by_backbone" if mean else "gains"
        findings.append(f"Against {BASELINE}, by backbone: {tally(single, 'better', 'worse')}")
        figures[each] = forest(panels(single), across=across)
        captions[each] = f"What each augmentation adds to {BASELINE}, by backbone, {tested(single)}"
    if ranked := ranking(results):
        findings.append(ranks_said(ranked))
        if len(ranked.blocks) > 1:
            figures["ranks"] = rank_line(ranked)
            captions["ranks"] = (
                f"Mean ranks over {len(ranked.blocks)} datasets, backbones and seeds averaged, 1 "
                "the best. Bars join what Nemenyi's test at .05 cannot tell apart."
            )
    return Page(tuple(findings), tables, figures, captions)


def _accuracy(results: Sequence[Result]) -> dict[str, Table]:
    """One table of all, or one for each backbone where the datasets of all would not fit."""
    title = "Test top-1 (%) by augmentation"
    found = blocks(results)
    if len(found) <= COLUMNS:
        return {"accuracy": matrix_table(results, title) or comparison_table(results, title)}
    tables = {}
    for backbone in dict.fromkeys(backbone for _, backbone in found):
        own = [result for result in results if str(result.choices["backbone"]) == backbone]
        titled = f"{title}, {backbone}"
        tables[f"accuracy-{backbone}"] = matrix_table(own, titled) or comparison_table(own, titled)
    return tables
