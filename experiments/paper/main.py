"""Which augmentation gives the best classifier, and by how much does SGID lead the best baseline?

The paper's main table: datasets × three backbones × all augmentations.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.paper.arms import BASE, GENERATIVE, PERTURBATIONS, SGID
from experiments.paper.contrasts import blocks, compare, panels, tally, top1
from experiments.paper.grid import Sweep
from experiments.paper.leads import gains, lead_said, lead_table, over_best
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.evaluation.ranks import Ranking, critical_difference, friedman, rank
from sgid.reporting.arms import BASELINE
from sgid.reporting.charts.forest import forest
from sgid.reporting.charts.rank_line import rank_line
from sgid.reporting.comparison import comparison_table
from sgid.reporting.matrix import matrix_table
from sgid.reporting.results import Result
from sgid.reporting.wording import aug_text, p_text

TITLE = "All augmentations"


def grid(scale: Scale) -> list[Sweep]:
    augmentations = [*BASE, *PERTURBATIONS, *GENERATIVE, *SGID]
    return [scale.sweep(augmentations, {"backbone": scale.backbones})]


def render(results: Sequence[Result]) -> Page:
    if not results:
        return Page()
    title = "Test top-1 (%) by augmentation"
    leads, gained = compare(results, over_best), compare(results, gains)
    findings = [lead_said(one) for one in leads]
    tables = {"accuracy": matrix_table(results, title) or comparison_table(results, title)}
    figures, captions = {}, {}
    if leads:
        tables["lead"] = lead_table(leads)
    if gained:
        findings.append(f"Against {BASELINE}: {tally(gained, 'better', 'worse')}")
        figures["gains"] = forest(panels(gained), across=f"test top-1 minus {BASELINE} (points)")
        captions["gains"] = (
            f"What each augmentation adds to {BASELINE}, by backbone, with 95 % intervals over "
            "seeds. Full marks: supported by the paired test, Holm-corrected over all."
        )
    if ranking := _ranking(results):
        findings.append(_ranks_said(ranking))
        figures["ranks"] = rank_line(ranking)
        captions["ranks"] = (
            f"Mean ranks over {len(ranking.blocks)} blocks (a dataset with a backbone, its seeds "
            "averaged), 1 the best. Bars join what Nemenyi's test at .05 cannot tell apart."
        )
    return Page(tuple(findings), tables, figures, captions)


def _ranking(results: Sequence[Result]) -> Ranking | None:
    return rank(
        {
            ", ".join(block): {aug_text(aug): top1(runs).value for aug, runs in arms.items()}
            for block, arms in blocks(results).items()
        }
    )


def _ranks_said(ranking: Ranking) -> str:
    means = dict(zip(ranking.methods, ranking.means, strict=True))
    count, ranked = len(means), len(ranking.blocks)
    text = (
        f"Over {ranked} blocks {ranking.methods[0]} has the best mean rank, {ranking.means[0]:.2f}"
    )
    if "sgid" in means and ranking.methods[0] != "sgid":
        text += f"; SGID's is {means['sgid']:.2f} of {count}"
    text += (
        f". Friedman's test that all are alike: {p_text(friedman(ranking.ranks))}, by permutation"
    )
    text += (
        f". Two methods can be told apart from {critical_difference(count, ranked):.1f} ranks on"
    )
    if ranking.incomplete:
        text += f". Not ranked, as methods are missing: {'; '.join(ranking.incomplete)}"
    return f"{text}."
