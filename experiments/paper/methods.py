"""Which published method helps few images most, and does SGID lead each of them?

Primary comparison, fixed before any run was read: SGID against each other generative method with
the fewest images per class, test top-1 averaged over the backbones of a seed (which share their
images), the paired t-test over seeds, Holm-corrected over the methods. All else is exploratory.
Every method has its authors' settings (conf/aug), but as many generated images and denoising steps
as the others.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from experiments.charts.forest import forest
from experiments.paper.arms import LITERATURE, SGID
from experiments.paper.backbones import over_backbones
from experiments.paper.contrasts import (
    Arms,
    Contrast,
    Found,
    compare,
    panels,
    points,
    table,
    tally,
    tested,
)
from experiments.paper.grid import Sweep
from experiments.paper.leads import OURS, gains
from experiments.paper.measures import generative
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.reporting.arms import BASELINE
from sgid.reporting.comparison import comparison_table, matrix_table
from sgid.reporting.format import aug_text
from sgid.reporting.results import Result
from sgid.reporting.table import Cell, Table

TITLE = "Methods of others"
NAMES = ("method", "SGID", "its top-1", "SGID minus it (points)")
FOUND = 1.0
"""Seconds below which a run has found its images made."""
GAINS = ("augmentation", "test top-1 (%)", BASELINE, "difference (points)")


def grid(scale: Scale) -> list[Sweep]:
    """The fewest shots with every backbone, more shots with one."""
    few, *more = scale.compared_shots
    places = [(few, scale.backbones), *((shots, [scale.backbone]) for shots in more)]
    return [
        scale.sweep(
            [arm],
            {
                "dataset": [scale.dataset],
                "dataset.shots": [shots],
                "seed": scale.compared_seeds,
                "backbone": backbones,
                **{name: [value] for name, value in scale.compared_options.get(arm, {}).items()},
                **({"expansion": [scale.compared_expansion]} if arm != "[flip_crop]" else {}),
            },
        )
        for shots, backbones in places
        for arm in ["[flip_crop]", "[text2img_label]", "[img2img_label]", *SGID, *LITERATURE]
    ]


def render(results: Sequence[Result]) -> Page:
    shots = sorted({run.config["dataset"]["shots"] or 0 for run in results})
    if not shots:
        return Page()
    tables: dict[str, Table] = {}
    figures, captions, findings = {}, {}, []
    for number in shots:
        runs = [run for run in results if (run.config["dataset"]["shots"] or 0) == number]
        named = f"{number} images per class"
        title = f"Test top-1 (%), {named}"
        accuracy = matrix_table(runs, title) or comparison_table(runs, title)
        tables[f"accuracy-{number}"] = accuracy
        leads = over_backbones(runs, over_each) or compare(runs, over_each)
        if not leads:
            continue
        first = number == shots[0]
        kind = "Primary" if first else "Exploratory"
        findings.append(
            f"{kind}, {named}: SGID against each method. "
            f"{tally(leads, 'higher with SGID', 'lower with SGID')}"
        )
        findings += [_said(one) for one in _ends(leads)] if first else []
        leading = f"SGID against each method, {named}"
        tables[f"leads-{number}"] = table(leads, leading, NAMES)
        figures[f"leads-{number}"] = forest(panels(leads), across="SGID minus the method (points)")
        captions[f"leads-{number}"] = f"{leading} (right of zero, SGID is better), {tested(leads)}"
        if own := over_backbones(runs, gains) or compare(runs, gains):
            tables[f"gains-{number}"] = table(own, f"Difference to {BASELINE}, {named}", GAINS)
            best = max(own, key=lambda one: one.difference.value)
            findings.append(
                f"Exploratory, {named}: {best.contrast.name} adds most to {BASELINE}, "
                f"{points(best.difference)}."
            )
    if cost := cost_table(results):
        tables["cost"] = cost
    return Page(tuple(findings), tables, figures, captions)


def over_each(arms: Arms) -> list[Contrast]:
    """SGID against every other arm but plain perturbation."""
    if OURS not in arms:
        return []
    others = [aug for aug in arms if aug not in (OURS, (BASELINE,))]
    return [Contrast(aug_text(aug), OURS, aug) for aug in others]


def cost_table(results: Sequence[Result]) -> Table | None:
    """Seconds that each method's images took, with all that it prepared and learned for them.

    The first run that asks for a store makes it; those that found theirs made do not count.
    """
    made: dict[str, dict[str, tuple[float, int]]] = {}
    for run in generative(results):
        store, seconds = run.generated[0], run.seconds.get("augment", 0.0)
        stores = made.setdefault(store.method, {})
        stores[store.path] = max(stores.get(store.path, (0.0, 0)), (seconds, store.images))
    each = {
        method: [1000 * seconds / images for seconds, images in stores.values() if seconds > FOUND]
        for method, stores in made.items()
    }
    medians = {method: statistics.median(times) for method, times in each.items() if times}
    if OURS[0] not in medians:
        return None
    rows = tuple(
        (
            Cell(method),
            Cell(str(len(each[method]))),
            Cell(f"{median:,.0f}"),
            Cell(f"{median / medians[OURS[0]]:.1f}×"),
        )
        for method, median in sorted(medians.items(), key=lambda one: one[1])
    )
    note = (
        "Medians over the seeds. Captions are made by the first method that asks for them, and "
        "models are loaded by it. Other work ran beside these runs: docs/speed.md has methods side "
        "by side."
    )
    heads = ("method", "stores", "ms an image, learning included", "against SGID")
    return Table("What the images cost", heads, rows, (note,))


def _ends(found: Sequence[Found]) -> list[Found]:
    """The largest lead and the largest lag."""
    ordered = sorted(found, key=lambda one: one.difference.value)
    return [ordered[-1], ordered[0]] if len(ordered) > 1 else ordered


def _said(one: Found) -> str:
    verdict = "supported" if one.supported else "not supported by the test"
    return f"SGID minus {one.contrast.name}: {points(one.difference)}: {verdict}."
