"""The lead over the best baseline, which is chosen on the validation part."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.paper.choice import chosen, complete
from experiments.paper.contrasts import ALL, Arms, Contrast, Found, notes, points
from sgid.reporting.arms import BASELINE
from sgid.reporting.format import ABSENT, aug_text, difference_text, mean_text, p_text, signed
from sgid.reporting.table import Cell, Table

OURS = ("sgid",)
BARE = ("none",)
OURS_BARE = ("none", "sgid")
"""SGID without `flip_crop`, as `none` is without."""
# The lead that the paper reports over its best baseline, in points, by the kind of backbone. Its
# datasets and its baselines are not ours: it is shown, and compared with nothing.
PAPER = {
    "resnet50": ("ResNet-50", 1.72),
    "small_resnet": ("ResNet-50", 1.72),
    "vit": ("ViT, ImageNet-21k", 0.33),
    "small_vit": ("ViT, ImageNet-21k", 0.33),
    "clip_vit": ("CLIP-ViT", 0.14),
    "small_clip": ("CLIP-ViT", 0.14),
}


def gains(arms: Arms) -> list[Contrast]:
    """Every augmentation against `flip_crop`."""
    plain = (BASELINE,)
    return [Contrast(aug_text(aug), aug, plain) for aug in arms if aug != plain]


def base(arms: Arms) -> list[Contrast]:
    """The difference of `flip_crop`, which all but `none` include, to nothing."""
    return [Contrast(BASELINE, (BASELINE,), BARE)]


def over_best(arms: Arms) -> list[Contrast]:
    """SGID against the baseline with the best mean validation top-1.

    The test part has no say in which baseline that is. Where it is `none`, the difference would be
    that of `flip_crop` as well: SGID is compared without it, if that was run.
    """
    if OURS not in arms:
        return []
    asked = complete({aug: runs for aug, runs in arms.items() if "sgid" not in aug or aug == OURS})
    asked.pop(OURS, None)
    if (best := chosen(asked)) is None:
        return []
    ours = OURS_BARE if best == BARE and OURS_BARE in arms else OURS
    return [Contrast("SGID's lead", ours, best)]


def lead_table(found: Sequence[Found]) -> Table:
    """SGID, the best baseline and the lead, for each dataset and backbone; and the paper's."""
    rows = []
    for one in found:
        kind = PAPER.get(one.block[1])
        pooled = one.block[0] == ALL
        rows.append(
            (
                Cell(one.block[0]),
                Cell(one.block[1]),
                Cell(_ours(one)),
                Cell("each dataset's own" if pooled else aug_text(one.contrast.theirs)),
                Cell(mean_text(one.theirs) if one.theirs else ABSENT),
                Cell(
                    difference_text(one.difference, one.difference.p),
                    bold=one.supported and one.difference.value > 0,
                ),
                Cell(f"{signed(kind[1])} ({kind[0]})" if kind else ABSENT),
            )
        )
    heads = (
        "dataset", "backbone", "SGID", "best baseline", "its top-1", "lead (points)",
        "the paper's lead",
    )  # fmt: skip
    chosen = (
        "The best baseline is the one with the highest mean top-1 on the validation part: the test "
        "part has no say in it. Where that is none, SGID is compared on the same base (none + "
        "sgid), if that was run.",
        "The paper's lead is what its authors report with that kind of backbone on their seven "
        "datasets, over their baselines; it is no target for other data and smaller models.",
    )
    return Table("SGID's lead over the best baseline", heads, tuple(rows), (*chosen, *notes(found)))


def _ours(one: Found) -> str:
    """SGID's top-1, with its name where it is not plain `sgid`."""
    if not one.ours:
        return ABSENT
    own = "" if one.contrast.ours == OURS else f" ({aug_text(one.contrast.ours)})"
    return f"{mean_text(one.ours)}{own}"


def lead_said(one: Found, bases: Sequence[Found]) -> str:
    """Sentence on SGID's lead, or that there is none; `bases` are the differences of the `base`."""
    if one.block[0] == ALL:
        subject = f"With {one.block[1]}, over all datasets"
        against = "the best baseline of each"
    else:
        subject = f"On {one.block[0]} with {one.block[1]}"
        against = f"{aug_text(one.contrast.theirs)}, the best baseline on the validation part,"
    value = one.difference.value
    verb = "leads" if value > 0 else "trails" if value < 0 else "equals"
    half, p = one.difference.half_width, one.difference.p
    bare = one.contrast.ours == OURS_BARE and one.block[0] != ALL
    ours = f"SGID without {BASELINE}" if bare else "SGID"
    text = f"{subject}, {ours} {verb} {against} by {abs(value):.2f}"
    text += "" if math.isnan(half) else f" ± {half:.2f}"
    text += " points" if math.isnan(p) else f" points ({p_text(p)})"
    text = f"{text}: {_verdict(one)}."
    own = next((other for other in bases if other.block == one.block), None)
    if (one.contrast.ours, one.contrast.theirs) == (OURS, BARE) and own and one.block[0] != ALL:
        text += (
            f" SGID includes {BASELINE}, which none does not: {BASELINE} alone minus none is "
            f"{points(own.difference)}."
        )
    return text


def _verdict(one: Found) -> str:
    if math.isnan(one.difference.p):
        return "too few seeds for a test"
    if not one.supported:
        return "the test does not support a difference"
    return "the test supports it"
