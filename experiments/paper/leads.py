"""The lead over the best baseline, which is chosen on the validation part."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.paper.contrasts import ALL, Arms, Contrast, Found, notes, top1
from sgid.reporting.arms import BASELINE
from sgid.reporting.table import Cell, Table
from sgid.reporting.wording import ABSENT, aug_text, difference_text, mean_text, p_text, signed

OURS = ("sgid",)
# The lead that the paper reports over its best baseline, in points, by the kind of backbone. Its
# datasets and its baselines are not ours: it stands beside, and is compared with nothing.
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


def over_best(arms: Arms) -> list[Contrast]:
    """SGID against the baseline with the best mean validation top-1 over SGID's seeds.

    The test part has no say in which baseline that is. Only baselines with all seeds that SGID has
    are asked, so that none is chosen for an easier seed.
    """
    seeds = set(arms.get(OURS, {}))
    best: tuple[float, tuple[str, ...]] | None = None
    for aug, runs in arms.items():
        if "sgid" in aug or not seeds or not seeds <= set(runs):
            continue
        value = top1({seed: runs[seed] for seed in seeds}, "validation").value
        if math.isfinite(value) and (best is None or value > best[0]):
            best = value, aug
    return [Contrast("SGID's lead", OURS, best[1])] if best else []


def lead_table(found: Sequence[Found]) -> Table:
    """SGID, the best baseline and the lead, for each dataset and backbone; the paper's beside."""
    rows = []
    for one in found:
        kind = PAPER.get(one.block[1])
        pooled = one.block[0] == ALL
        rows.append(
            (
                Cell(one.block[0]),
                Cell(one.block[1]),
                Cell(mean_text(one.ours) if one.ours else ABSENT),
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
        "part has no say in it.",
        "The paper's lead is what its authors report with that kind of backbone on their seven "
        "datasets, over their baselines; it is no target for other data and smaller models.",
    )
    return Table("SGID's lead over the best baseline", heads, tuple(rows), (*chosen, *notes(found)))


def lead_said(one: Found) -> str:
    """One sentence on a lead, or on there being none."""
    if one.block[0] == ALL:
        subject = f"With {one.block[1]}, over all datasets"
        against = "the best baseline of each"
    else:
        subject = f"On {one.block[0]} with {one.block[1]}"
        against = f"{aug_text(one.contrast.theirs)}, the best baseline on the validation part,"
    value = one.difference.value
    verb = "leads" if value > 0 else "trails" if value < 0 else "equals"
    half, p = one.difference.half_width, one.difference.p
    text = f"{subject}, SGID {verb} {against} by {abs(value):.2f}"
    text += "" if math.isnan(half) else f" ± {half:.2f}"
    text += " points" if math.isnan(p) else f" points ({p_text(p)})"
    return f"{text}: {_verdict(one)}."


def _verdict(one: Found) -> str:
    if math.isnan(one.difference.p):
        return "too few seeds for a test"
    if not one.supported:
        return "the test does not support a difference"
    return "the test supports it"
