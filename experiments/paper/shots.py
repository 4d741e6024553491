"""Does generating help more, the fewer real images there are?"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.charts.lines import lines
from experiments.paper.arms import SGID
from experiments.paper.grid import Sweep
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from experiments.paper.trends import compare_settings, said, setting_table, slope_said
from sgid.reporting.arms import BASELINE
from sgid.reporting.format import aug_text
from sgid.reporting.results import Result

TITLE = "Number of real images"


def grid(scale: Scale) -> list[Sweep]:
    arms = ["[flip_crop]", "[randaugment]", "[text2img_label]", *SGID]
    return [scale.sweep(arms, {"dataset": [scale.dataset], "dataset.shots": scale.shots})]


def render(results: Sequence[Result]) -> Page:
    runs: dict[tuple[str, float], dict[int, Result]] = {}
    for run in results:
        if shots := run.config["dataset"].get("shots"):
            runs.setdefault((aug_text(run.aug), float(shots)), {})[run.seed] = run
    found = compare_settings(
        {
            (aug, shots): (ours, runs[BASELINE, shots])
            for (aug, shots), ours in sorted(runs.items(), key=lambda item: item[0][1])
            if aug != BASELINE and (BASELINE, shots) in runs
        }
    )
    if not found:
        return Page()
    names = list(dict.fromkeys(aug_text(run.aug) for run in results if run.aug != (BASELINE,)))
    gains = {name: {one.at: one.difference for one in found if one.name == name} for name in names}
    sgid = [one for one in found if one.name == "sgid"]
    return Page(
        (*slope_said(sgid), *(said(one, "real images per class") for one in sgid)),
        {"shots": setting_table(found, f"Gain over {BASELINE}", "real images per class")},
        {
            "gain": lines(
                {name: points for name, points in gains.items() if points},
                across="real images per class (dataset.shots)",
                up=f"gain over {BASELINE} (points)",
                zero=True,
            )
        },
        {
            "gain": f"Gain over {BASELINE} with the same real images, by their number, with 95 % "
            "intervals over seeds. Marks of one number stand next to each other."
        },
    )
