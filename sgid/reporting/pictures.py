"""The pictures of a run's report, drawn once for the page and for the files beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgid.reporting.arms import BASELINE
from sgid.reporting.kept import Example, read_curves
from sgid.reporting.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Larger images are shown smaller on the page, so that it can be sent by mail.
SHOWN_PIXELS = 256


@dataclass(frozen=True)
class Picture:
    """A chart as it stands on the page, `width` CSS pixels wide."""

    png: bytes
    width: int
    caption: str

    @property
    def uri(self) -> str:
        return _uri(self.png, "png")

    @property
    def wide(self) -> bool:
        """Whether it is to be scrolled rather than shrunk."""
        return self.width > 900


def draw_pictures(
    result: Result, examples: Sequence[Example], baseline: Result | None
) -> dict[str, Picture]:
    """Every picture that the run has something to show in, by name.

    `baseline` is the run with `aug=flip_crop` to draw beside it.
    """
    from sgid.reporting import figures
    from sgid.reporting.grid import example_grid

    drawn: dict[str, tuple[Figure, str]] = {}
    if examples:
        drawn["examples"] = (example_grid(examples), "Originals and their augmented images")
    if any(one.histograms for one in result.generated):
        drawn["histograms"] = (
            figures.histograms(result.generated),
            "Similarity of the chosen captions, and the guidance scales that follow from it",
        )
    if any(one.cosine_per_class for one in result.generated):
        drawn["class_cosine"] = (
            figures.class_cosine(result.generated),
            "Mean cosine similarity of augmented and original images, by class",
        )
    if result.class_accuracy:
        drawn["class_accuracy"] = (
            figures.class_accuracy(
                result.class_accuracy, baseline.class_accuracy if baseline else None
            ),
            "Test top-1 by class" + (f"; dots: the run with aug={BASELINE}" if baseline else ""),
        )
    if logged := read_curves(result.folder):
        drawn["curves"] = (figures.curves(logged), "What was logged during training")
    return {name: _picture(figure, caption) for name, (figure, caption) in drawn.items()}


def _picture(figure: Figure, caption: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return Picture(buffer.getvalue(), round(96 * figure.get_figwidth()), caption)


def image_uri(encoded: bytes) -> str:
    """An image (PNG bytes) for the `src` of the page."""
    from PIL import Image

    image = Image.open(io.BytesIO(encoded))
    if max(image.size) <= SHOWN_PIXELS:
        return _uri(encoded, "png")
    image = image.convert("RGB")
    image.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return _uri(buffer.getvalue(), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
