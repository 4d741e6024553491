"""The picture at the top of the README: originals, their images by SGID, and what steered them.

    python run.py dataset.shots=20 noise_rate=0.7 steps=12 trainer.validations=2
    python -m experiments.examples results/<fingerprint> --output docs/images/examples.png

Draws the examples that a finished run keeps for its report, in their order: none is picked by eye.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from sgid.reporting.figure_files import encode
from sgid.reporting.format import steering_text
from sgid.reporting.results import Example, read_examples
from sgid.runtime.files import write_atomic

ACROSS, DOWN = 2, 3
IMAGES = 4
"""Generated images of each original."""
# Inches, at 100 pixels each where the README is read.
CELL, GAP, HEAD, TEXT, MARGIN = 0.94, 0.05, 0.22, 0.5, 0.28
DPI = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the picture; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run's result")
    parser.add_argument("--output", type=Path, default=Path("examples.png"), help="PNG file")
    given = parser.parse_args(arguments)
    shown = read_examples(given.run)[: ACROSS * DOWN]
    if not shown:
        print(f"{given.run} keeps no generated images: name a run's folder", file=sys.stderr)
        return 1
    write_atomic(given.output, draw(shown))
    print(f"picture: {given.output}")
    return 0


def draw(shown: Sequence[Example]) -> bytes:
    """PNG: each original and `IMAGES` of its images in a line, and below what steered them."""
    from matplotlib.figure import Figure
    from PIL import Image

    item = (1 + IMAGES) * CELL
    rows = math.ceil(len(shown) / ACROSS)
    width, height = ACROSS * item + (ACROSS - 1) * MARGIN, HEAD + rows * (CELL + TEXT)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    for number, example in enumerate(shown):
        left = number % ACROSS * (item + MARGIN)
        top = HEAD + number // ACROSS * (CELL + TEXT)
        if number < ACROSS:
            axes.text(left, 0, "original", **_STYLE)
            axes.text(left + CELL + GAP, 0, "augmented", **_STYLE)
        for column, encoded in enumerate([example.original, *example.images[:IMAGES]]):
            # A little air sets the original off.
            x, side = left + column * CELL + (GAP if column else 0), CELL - GAP
            image = Image.open(io.BytesIO(encoded)).convert("RGB")
            axes.imshow(image, extent=(x, x + side, top + side, top), interpolation="nearest")
        axes.text(left, top + CELL, example.class_name, **_STYLE, weight="bold")
        axes.text(left + CELL + GAP, top + CELL, _steering(example), **_STYLE)
    return encode(figure)


_STYLE = {"va": "top", "fontsize": 9.5, "linespacing": 1.3, "parse_math": False}


def _steering(example: Example) -> str:
    """The caption, where there is one, and what steered the images."""
    caption = textwrap.wrap(f"“{example.caption}”", 58) if example.caption else []
    return "\n".join([*caption, steering_text(example)])


if __name__ == "__main__":
    sys.exit(main())
