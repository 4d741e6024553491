"""Decode image bytes to an RGB picture, the same way on every machine."""

from __future__ import annotations

import io
from contextlib import suppress
from functools import cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow's own threshold for "may be a decompression bomb", but here it refuses: 268 MB as RGB.
MAX_PIXELS = 89_478_485


# Formats that Pillow opens only through another program (EPS runs Ghostscript) or a plug-in; and
# FITS, whose compressed pixels it goes through one by one in Python: seconds for a small file.
_NOT_DECODED_HERE = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS"}


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # loads Pillow's plug-ins
    return tuple(name for name in Image.OPEN if name not in _NOT_DECODED_HERE)


@cache
def image_extensions() -> frozenset[str]:
    """The file extensions, in lower case (`.jpg`), of what `decode` can read."""
    known = Image.registered_extensions().items()
    return frozenset(extension for extension, name in known if name in _formats())


def decode(data: bytes) -> Image.Image:
    """The picture in `data`, in mode RGB, upright.

    The first frame of an animation; the EXIF orientation applied; transparency laid on white;
    16-bit grey scaled to 8 bits rather than clipped. The format is told by the bytes, not by a
    file name.

    Raises:
        ValueError: with the reason, if `data` is empty, truncated, damaged, no image, or has more
            than `MAX_PIXELS` pixels.
    """
    if not data:
        raise ValueError("not a readable image: the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise ValueError(f"{pixels:,} pixels, more than the {MAX_PIXELS:,} that are allowed")
        image.load()  # first, lest an error in the pixels be taken for one in the EXIF data
        return _rgb(_upright(image))
    except UnidentifiedImageError as error:  # its message holds a memory address
        raise ValueError("not a readable image: of no known image format") from error
    # Damaged bytes make Pillow raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise ValueError(f"not a readable image: {str(error) or type(error).__name__}") from error


def _upright(image: Image.Image) -> Image.Image:
    # Pillow turns the picture first and then rewrites its EXIF data, where it raises if they are
    # damaged. They are not needed: the picture is.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    """8-bit grey from (H, W) grey values that are 16-bit or 32-bit integers, or floats.

    Full scale is 65535 for integers and 1 for floats, since one scale for all images of a set
    keeps them comparable. An image that goes beyond has no agreed scale: it is stretched.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it has grey values that are not finite")
    full = 1.0 if values.dtype.kind == "f" else 65535.0
    if low >= 0 and high <= full:
        low, high = 0.0, full
    scaled = (values - low) / ((high - low) or 1.0)
    return Image.fromarray((scaled * 255).round().astype(np.uint8))


LONGEST = 8.0
"""Times as long as wide, or as wide as long, beyond which an image is cut before it is resized."""


def centre(image: Image.Image) -> Image.Image:
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
