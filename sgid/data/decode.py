"""Decode image bytes to an RGB picture, the same way on every machine."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple, final

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

# Pillow's own threshold for "may be a decompression bomb", but here it refuses: 268 MB as RGB.
MAX_PIXELS = 89_478_485

MIN_SIDE = 8
"""Pixels; an image with a shorter side shows nothing."""

# Formats that Pillow opens only through another program (EPS runs Ghostscript) or a plug-in; and
# FITS, whose compressed pixels it goes through one by one in Python: seconds for a small file.
_NOT_DECODED_HERE = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS"}

_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_SPP, _PHOTOMETRIC, _EXTRA_SAMPLES = 277, 262, 338  # tags of TIFF

NOTES = {
    "page": "hold several pages, of which the first is used",
    "frame": "are animations, of which the first frame is used",
    "flat": "are of one colour all over",
    "small": f"have a side of fewer than {MIN_SIDE} pixels",
    "band": "have a fourth band that is not said to be transparency, and is not used",
    "cut": "have 16 bits a colour in a form of which the upper 8 are read",
}
"""Remarks on a decoded image, by the word that stands for each in the records of a scan."""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # loads Pillow's plug-ins
    with suppress(ImportError):
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]

        register_heif_opener()
    return tuple(name for name in Image.OPEN if name not in _NOT_DECODED_HERE)


def heif_is_read() -> bool:
    """Whether `pillow-heif` is installed."""
    return "HEIF" in _formats()


@cache
def image_extensions() -> frozenset[str]:
    """The file extensions, in lower case (`.jpg`), of what `decode` can read."""
    formats = _formats()
    known = Image.registered_extensions().items()
    return frozenset(extension for extension, name in known if name in formats)


def is_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes is of a format that `decode` reads."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        for name in _formats():
            accept = Image.OPEN[name][1]
            if accept and accept(head) is True:
                return True
    return False


class Scale(NamedTuple):
    """Grey values that are black and white in images of more than 8 bits: one for a whole set.

    `integers` is for images of whole numbers (0 to 4095 for 12 bits), `floats` for the others.
    `None` is 65535 and 1, or the image's own range where it goes beyond that.
    """

    integers: tuple[float, float] | None = None
    floats: tuple[float, float] | None = None


@final
@dataclass(frozen=True)
class Raw:
    """Pixels as they are stored, upright: 8-bit in `image`, else (H, W) or (H, W, C) in `values`.

    `inverted` is for grey values of which zero is white; `bands` is a key of `NOTES`, or empty.
    """

    image: Image.Image
    values: np.ndarray | None = None
    inverted: bool = False
    bands: str = ""

    @property
    def notes(self) -> list[str]:
        """Keys of `NOTES`; `page` and `frame` look through the file."""
        notes = [self.bands] if self.bands else []
        with suppress(Exception):  # what is damaged is not used
            if getattr(self.image, "is_animated", False) and self.image.format != "MPO":
                notes.append("page" if self.image.format == "TIFF" else "frame")
        if min(self.image.size) < MIN_SIDE:
            return [*notes, "small"]
        if self.span is not None:
            flat = self.span[0] == self.span[1]
        else:
            plain = self.image.mode in ("RGB", "L") and not self.image.has_transparency_data
            extrema: Any = (self.image if plain else _rgb(self.image)).getextrema()
            extrema = extrema if isinstance(extrema[0], tuple) else (extrema,)
            flat = all(low == high for low, high in extrema)
        return [*notes, "flat"] if flat else notes

    @property
    def span(self) -> tuple[float, float] | None:
        """The lowest and highest value, of an image of more than 8 bits."""
        if self.values is None:
            return None
        return float(self.values.min()), float(self.values.max())

    def rgb(self, scale: Scale = Scale()) -> Image.Image:  # noqa: B008, a tuple
        """The picture in mode RGB, values of more than 8 bits brought to 8 by `scale`."""
        if self.values is None:
            return _rgb(self.image)
        given = scale.floats if self.values.dtype.kind == "f" else scale.integers
        grey = _to_8_bits(self.values, given)
        return Image.fromarray(255 - grey if self.inverted else grey).convert("RGB")


def decode(data: bytes, scale: Scale = Scale()) -> Image.Image:  # noqa: B008, a tuple
    """The picture in `data`, in mode RGB, upright.

    The first frame of an animation; the EXIF orientation applied; transparency laid on white (on
    black where nothing would be seen on white); colours of another profile brought to sRGB; more
    than 8 bits brought to 8 by `scale`. The format is read off the bytes, not off a file name.

    Raises:
        ValueError: with the reason, if `data` is empty, truncated, damaged, no image, or has more
            than `MAX_PIXELS` pixels.
    """
    try:
        return read_raw(data).rgb(scale)
    except ValueError as error:
        if str(error).startswith("not a readable image"):
            raise
        raise ValueError(f"not a readable image: {error}") from error


def read_raw(data: bytes) -> Raw:
    """The pixels in `data` as they are stored, upright, and what is to be remarked of them.

    Raises:
        ValueError: as `decode` does.
    """
    if not data:
        raise ValueError("not a readable image: the file is empty")
    try:
        image = Image.open(io.BytesIO(_without_text(data)), formats=_formats())
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise ValueError(f"{pixels:,} pixels, more than the {MAX_PIXELS:,} that are allowed")
        image.load()  # first, lest an error in the pixels be taken for one in the EXIF data
        raw = _raw(image, data)
        if raw.span is not None and not np.isfinite(raw.span).all():
            raise ValueError("it has grey values that are not finite")
        return raw
    except UnidentifiedImageError as error:  # its message holds a memory address
        raise ValueError(f"not a readable image: {_unknown(data)}") from error
    # Damaged bytes make Pillow raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        why = _jpeg_problem(data) or str(error) or type(error).__name__
        raise ValueError(f"not a readable image: {why}") from error


def _raw(image: Image.Image, data: bytes) -> Raw:
    tags: Any = getattr(image, "tag_v2", {})
    deep = image.mode.startswith("I") or image.mode == "F"
    inverted = deep and tags.get(_PHOTOMETRIC) == 0
    bands = ""
    if tags and image.mode == "RGBA" and _EXTRA_SAMPLES not in tags:
        bands = "band"
        image.putalpha(255)
    elif tags and image.mode in ("RGB", "RGBA") and max(tags.get(258, (8,))) > 8:
        bands = "cut"
    image = _upright(image)
    values = np.asarray(image) if deep else None
    if image.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6):
        values = _deep_png(data)
    return Raw(image, values, inverted, bands)


def _deep_png(data: bytes) -> np.ndarray:
    """The colours of a PNG of 16 bits each, of which Pillow keeps the upper 8."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    bytes_ = torch.frombuffer(bytearray(_without_text(data)), dtype=torch.uint8)
    values = decode_png(bytes_, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()  # (H, W, C)
    if values.shape[2] in (2, 4):  # on white
        colours, alpha = values[..., :-1].astype(np.float64), values[..., -1:] / 65535
        values = (colours * alpha + 65535 * (1 - alpha)).round().astype(np.uint16)
    return np.repeat(values, 3, 2) if values.shape[2] == 1 else values


_TEXT = (b"tEXt", b"zTXt", b"iTXt")


def _without_text(data: bytes) -> bytes:
    """A PNG without its comments, and without a colour profile that is larger than any real one.

    Pillow refuses a whole file for a megabyte of either, since it may be a decompression bomb.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, start, at = [], 0, 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind in _TEXT or (kind == b"iCCP" and _is_huge(data[at + 8 : end - 4])):
            parts.append(data[start:at])
            start = end
        at = end
    return b"".join([*parts, data[start:]]) if parts else data


def _is_huge(profile: bytes) -> bool:
    import zlib

    body = profile.partition(b"\0")[2][1:]
    try:
        limit = PngImagePlugin.MAX_TEXT_CHUNK
        return len(zlib.decompressobj().decompress(body, limit + 1)) > limit
    except zlib.error:
        return False


def _unknown(data: bytes) -> str:
    """Description of bytes that Pillow does not know."""
    head = data[:512].lstrip().lower()
    if data.startswith(b"version https://git-lfs.github.com/spec"):
        return "a Git LFS pointer, not the image itself: `git lfs pull` fetches it"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        return "a HEIC photograph, which pip install 'sgid[heic]' lets be read"
    if data[128:132] == b"DICM":
        return "a DICOM file: convert it to PNG or TIFF of 16 bits"
    if head.startswith((b"<!doctype html", b"<html")):
        return "of no known image format, but a web page"
    if why := _jpeg_problem(data):
        return why
    if data[:4] in (b"II*\0", b"MM\0*"):
        with suppress(Exception):
            tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
            stream = io.BytesIO(data)
            stream.seek(tags.next or 0)
            tags.load(stream)
            if (bands := tags.get(_SPP, 1)) > 4:
                return f"a TIFF of {bands} bands: write those that are red, green and blue alone"
            return (
                f"a TIFF of a kind that Pillow does not read ({tags.get(258)} bits, {bands} bands)"
            )
    return "of no known image format"


def _jpeg_problem(data: bytes) -> str | None:
    """The reason where a JPEG is lossless or has more than 8 bits, which no library here reads."""
    frame = re.search(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf])..(.)", data[:65536], re.S)
    if not data.startswith(b"\xff\xd8") or frame is None:
        return None
    if frame[1] in b"\xc3\xc7\xcb\xcf":
        return "a lossless JPEG: convert it to PNG"
    return f"a JPEG of {frame[2][0]} bits: convert it to PNG" if frame[2][0] > 8 else None


def _upright(image: Image.Image) -> Image.Image:
    # Pillow turns the picture first and then rewrites its EXIF data, where it raises if they are
    # damaged. They are not needed: the picture is.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        image = _to_srgb(image, profile)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    low, high = layer.getchannel("A").getextrema()
    if low != high and all(one == (255, 255) for one in _extrema(white)):
        # White on white: the shape is in the transparency alone.
        return Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer).convert("RGB")
    return white


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    """The lowest and highest value of each channel of an RGB image."""
    extrema: Any = image.getextrema()
    return extrema


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image with its colours in sRGB; itself, where its profile is that or is damaged."""
    with suppress(Exception):
        transform = _transform(profile, image.mode)
        if transform is not None:
            result = ImageCms.applyTransform(image, transform)
            if result is not None:
                result.info.pop("icc_profile", None)
                return result
    return image


@lru_cache(64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "srgb" in ImageCms.getProfileDescription(own).lower():
        return None
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(own, srgb, mode, "RGB" if mode == "CMYK" else mode)


def _to_8_bits(values: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    """uint8 of the same shape. Beyond a `scale` that is given is black and white.

    Without one full scale is 65535 for integers and 1 for floats; an image that goes beyond has no
    agreed scale: it is stretched.
    """
    if scale is None:
        low, high = float(values.min()), float(values.max())
        full = 1.0 if values.dtype.kind == "f" else 65535.0
        scale = (0.0, full) if low >= 0 and high <= full else (low, high)
    low, high = scale
    scaled = ((values - low) / ((high - low) or 1.0)).clip(0, 1)
    return (scaled * 255).round().astype(np.uint8)


FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)
"""The highest values of 1, 8, 10, 12, 14 and 16 bits."""


def scale_of(low: float, high: float) -> tuple[float, float]:
    """Black and white of a set whose values go from `low` to `high`.

    From 0 to the highest value of the least of 1, 8, 10, 12, 14, 16 bits that holds them all;
    where none does, or some are negative, the values themselves.
    """
    if low >= 0:
        for full in FULL_SCALES:
            if high <= full:
                return 0.0, float(full)
    return low, high


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
