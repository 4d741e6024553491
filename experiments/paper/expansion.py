"""Are more images of each original worth making?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.charts.lines import lines
from experiments.paper.arms import SGID
from experiments.paper.choice import chosen, complete
from experiments.paper.contrasts import points, top1
from experiments.paper.grid import Sweep
from experiments.paper.measures import generative
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from experiments.paper.trends import Setting, compare_settings, said, setting_table, verdict
from sgid.evaluation.statistics import paired_difference
from sgid.reporting.arms import BASELINE
from sgid.reporting.format import mean_text
from sgid.reporting.results import Result

TITLE = "Expansion"
RATIOS = ["1", "2", "5", "10"]


def grid(scale: Scale) -> list[Sweep]:
    few = {"dataset": [scale.dataset], "dataset.shots": [scale.few_shots]}
    return [
        scale.sweep(["[flip_crop]"], few),
        scale.sweep(SGID, {**few, "expansion": RATIOS}),
    ]


def render(results: Sequence[Result]) -> Page:
    made = generative(results)
    plain = [result for result in results if result.aug == (BASELINE,)]
    by_ratio: dict[float, dict[int, Result]] = {}
    for run in sorted(made, key=lambda run: run.config["expansion"]):
        by_ratio.setdefault(float(run.config["expansion"]), {})[run.seed] = run
    if not by_ratio:
        return Page()
    level = {run.seed: run for run in plain}
    found = compare_settings({("sgid", ratio): (runs, level) for ratio, runs in by_ratio.items()})
    accuracy = {"sgid": {ratio: top1(runs) for ratio, runs in by_ratio.items()}}
    return Page(
        tuple(_findings(by_ratio, found)),
        {"expansion": setting_table(found, "SGID by images per original", "images per original")},
        {
            "accuracy": lines(
                accuracy,
                across="images per original (expansion)",
                up="test top-1 (%)",
                levels={BASELINE: top1(level)} if level else None,
            )
        },
        {
            "accuracy": "Accuracy by the number of generated images per original, with 95 % "
            f"intervals over seeds; the band is {BASELINE}, which has no generated images."
        },
    )


def _findings(
    by_ratio: Mapping[float, Mapping[int, Result]], found: Sequence[Setting]
) -> list[str]:
    findings = []
    if (best := chosen(complete(by_ratio))) is not None:
        findings.append(
            f"The validation part chooses {best:g} images per original, with test top-1 "
            f"{mean_text(top1(by_ratio[best]))} %."
        )
    few, many = min(by_ratio), max(by_ratio)
    if few != many:
        both = [by_ratio[many], by_ratio[few]]
        shared = [seed for seed in both[0] if seed in both[1]]
        values = [[runs[seed].metrics["test/top1"] for seed in shared] for runs in both]
        more = paired_difference(values[0], values[1])
        if more.n:
            findings.append(
                f"From {few:g} to {many:g} images per original accuracy changes by "
                f"{points(more)}: {verdict(more)}."
            )
    return [*findings, *(said(one, "images per original") for one in found)]
