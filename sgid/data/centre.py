"""Images that are far longer than wide: only their centre is ever looked at."""

from __future__ import annotations

from PIL.Image import Image

LONGEST = 8.0
"""Times as long as wide, or as wide as long, beyond which an image is cut before it is resized."""


def centre(image: Image) -> Image:
    """The image itself; of one of more than `LONGEST` to 1, as much of its centre.

    To be put before what brings the shorter side to a size and takes the central square: 20,000
    × 3 pixels would become 1.7 million × 256 on the way, which is more than a gigabyte.
    """
    width, height = image.size
    longest = round(min(width, height) * LONGEST)
    if max(width, height) <= longest:
        return image
    kept_width, kept_height = min(width, longest), min(height, longest)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return image.crop((left, top, left + kept_width, top + kept_height))
