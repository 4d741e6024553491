"""Does SGID's gain come from the label, the caption, or guidance by similarity?

Each is left out in turn; the caption is also chosen at random instead of by similarity.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.charts.forest import forest
from experiments.paper.arms import SGID, WITHOUT_A_PART
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
from sgid.reporting.results import Result

TITLE = "Parts of SGID"


def grid(scale: Scale) -> list[Sweep]:
    arms = ["[flip_crop]", *SGID, *WITHOUT_A_PART, "[img2img_plain]"]
    return [scale.sweep(arms, {"seed": scale.many_seeds})]


# What is left out, by augmentation.
LEFT_OUT = {
    "no_label": "the label",
    "no_caption": "the caption",
    "fixed_guidance": "guidance by similarity",
    "random_caption": "the choice of the caption",
    "img2img_plain": "all text",
    "flip_crop": "all generated images",
}


def render(results: Sequence[Result]) -> Page:
    found = compare(results, _pairs)
    if not found:
        return Page()
    names = ("left out", "without it", "full SGID", "difference (points)")
    return Page(
        (*_parts(found), tally(found, "better without the part", "worse without the part")),
        {"ablation": table(found, "SGID without each of its parts", names)},
        {"parts": forest(panels(found), across="without the part minus full SGID (points)")},
        {
            "parts": "What leaving out each part changes (left of zero, the part helps), "
            f"{tested(found)}"
        },
    )


def _pairs(arms: Arms) -> list[Contrast]:
    return [
        Contrast(text, (name,), ("sgid",)) for name, text in LEFT_OUT.items() if (name,) in arms
    ]


def _parts(found: Sequence[Found]) -> list[str]:
    """A sentence for each part, the most costly to leave out first."""
    shown = drawn(found)
    return [
        f"Without {one.contrast.name}: {said(one, shown)}. {_verdict(one)}"
        for one in sorted(shown, key=lambda one: one.difference.value)
    ]


def _verdict(one: Found) -> str:
    if not one.supported:
        return "The test does not support a difference."
    return "It helps." if one.difference.value < 0 else "It does harm."
