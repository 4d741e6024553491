"""HTML templates, and the parts that several pages share."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.reporting.format import aug_text
from sgid.reporting.results import Pair

if TYPE_CHECKING:
    from jinja2 import Environment


# Larger images are shown smaller on the page, so that it can be sent by mail.
SHOWN_PIXELS = 256


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


SMALL = 96
"""Images below this side are shown with their pixels."""


def shown_pairs(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Pairs for the template: images as data addresses, with their captions."""
    return [
        {
            "image": image_uri(pair.image),
            "test": image_uri(pair.test),
            "original": None if pair.original is None else image_uri(pair.original),
            "original_key": pair.original_key,
            "small": small(pair.image),
            "near": pair.near,
            "note": f"{pair.method}, {pair.distance:.4f} from test image {pair.test_key}",
            "verdict": _verdict(pair),
        }
        for pair in pairs
    ]


def classifier_text(classifier: Mapping[str, Any] | None) -> str | None:
    """Sentences on `evaluation.classifier`: its run, its accuracy, and the methods it favours."""
    if classifier is None:
        return None
    text = (
        f"The classifier that labels are compared with was trained on real images alone: "
        f"{aug_text(classifier['aug'])}, {classifier['backbone']}, run "
        f"{classifier['fingerprint']}, test top-1 {classifier['top1']:.1f} %."
    )
    if (reference := classifier.get("held_out_top1")) is not None:
        text += (
            f" It gives {reference:.1f} % of the held-out real images their label: compare the "
            "agreement with that."
        )
    origin = "It was trained on the very originals of these images"
    if not classifier.get("same_originals"):
        origin = "It may have been trained on some of the originals, and of the held-out images"
    return f"{text} {origin}: methods that stay near the original are favoured."


def small(encoded: bytes) -> bool:
    """Whether an image (PNG bytes) is so small that its pixels are to be seen."""
    from PIL import Image

    return max(Image.open(io.BytesIO(encoded)).size) < SMALL


def _verdict(pair: Pair) -> str:
    if pair.same:
        return "the same pixels"
    return "near-copy" if pair.near else "not a near-copy"


def render(name: str, **values: Any) -> str:
    """Fill a template in. All values are escaped."""
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
