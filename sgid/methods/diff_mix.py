"""Diff-Mix's target: any class, and a soft label that follows the strength (arXiv 2403.19600)."""

from __future__ import annotations

from collections.abc import Sequence

from sgid.methods.method import Draw


def mixed_label(
    label: int,
    classes: int,
    draw: Draw,
    *,
    strength: float | Sequence[float],
    gamma: float,
) -> tuple[int, dict[int, float]]:
    """One of the `classes`, the image's own among them, and the weights of the two.

    Image i drawn as class j at strength s is labelled (1 - s^gamma) e_i + s^gamma e_j, which is
    e_i where j = i. Of several strengths, s is the one that the image is drawn with.
    """
    drawn = draw.choice("diff_mix", range(classes))
    given = strength if isinstance(strength, Sequence) else [strength]
    share = draw.choice("strength", given) ** gamma
    weights = {label: 1 - share}
    weights[drawn] = weights.get(drawn, 0.0) + share
    return drawn, weights
