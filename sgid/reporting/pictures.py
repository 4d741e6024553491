"""The pictures of a run's report, drawn once for the page and for the files beside it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


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
