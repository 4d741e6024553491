"""Does SGID still help together with an augmentation that already helps?

Each perturbation alone and on top of SGID's images.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.charts.forest import forest
from experiments.paper.arms import PERTURBATIONS
from experiments.paper.contrasts import (
    Arms,
    Contrast,
    Found,
    compare,
    drawn,
    panels,
    said,
    table,
    tally,
    tested,
)
from experiments.paper.grid import Sweep
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.reporting.arms import BASELINE
from sgid.reporting.format import aug_text
from sgid.reporting.results import Result

TITLE = "With other augmentations"


def grid(scale: Scale) -> list[Sweep]:
    combined = [f"[sgid,{name.strip('[]')}]" for name in PERTURBATIONS]
    return [scale.sweep(["[flip_crop]", "[sgid]", *PERTURBATIONS, *combined])]


def render(results: Sequence[Result]) -> Page:
    found = compare(results, _pairs)
    if not found:
        return Page()
    names = ("augmentation", "with SGID", "alone", "difference (points)")
    return Page(
        (tally(found, "better with SGID", "worse with SGID"), _best(found)),
        {"combination": table(found, "Augmentations alone and with SGID", names)},
        {"gains": forest(panels(found), across="with SGID minus alone (points)")},
        {"gains": f"What SGID's images add to each augmentation, {tested(found)}"},
    )


def _pairs(arms: Arms) -> list[Contrast]:
    """Each perturbation with and without SGID; SGID includes `flip_crop` without naming it."""
    pairs = []
    for aug in arms:
        if "sgid" in aug:
            alone = tuple(name for name in aug if name != "sgid") or (BASELINE,)
            pairs.append(Contrast(aug_text(alone), aug, alone))
    return pairs


def _best(found: Sequence[Found]) -> str:
    """The augmentations to which SGID adds the most and the least."""
    shown = drawn(found)
    most = max(shown, key=lambda one: one.difference.value)
    least = min(shown, key=lambda one: one.difference.value)
    return (
        f"SGID adds most to {most.contrast.name}: {said(most, shown)}; "
        f"least to {least.contrast.name}: {said(least, shown)}."
    )
