"""GeNIe's target: the hard label of a class that the start image is not of (arXiv 2312.02548)."""

from __future__ import annotations

from sgid.methods.method import Draw


def another_class(label: int, classes: int, draw: Draw) -> int:
    """One of the `classes` but `label`; the repeats of an original take them in turn.

    With as many repeats as other classes each original is drawn once as each of them, as in the
    authors' code; with fewer, the classes are equally likely.
    """
    return draw.turn("genie", [other for other in range(classes) if other != label])
