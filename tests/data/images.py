"""Image files as they should not be, by name; what each of them is, or why it is none."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.writers import encoded, picture

FORMS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG, with the checksum that belongs to it."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, rows: bytes | None = None) -> bytes:
    """A PNG of 8-bit grey with these further chunks; `rows` are its pixels, compressed."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((width + 1) * height)) if rows is None else rows
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(count: int) -> bytes:
    """So many zeros, compressed, without having them all at once."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.flush()])


def huge_tiff(width: int, height: int) -> bytes:
    """A TIFF that says it is so large, and has no pixels."""
    sizes = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 9}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sizes.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(sizes)) + entries + bytes(4)


def huge_gif(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02\x01\x44\0;"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\xf0\0\0" + bytes(6) + frame


def frames(form: str) -> bytes:
    pictures = [picture(0, index, 24) for index in range(3)]
    return encoded(pictures[0], form, save_all=True, append_images=pictures[1:], duration=50)


def good() -> dict[str, bytes]:
    """Strange, but to be used: file name -> bytes."""
    image = picture(0, 1, 24)
    palette = image.convert("P")
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 256
    noted = chunk(b"tEXt", b"Comment\0<script>alert(1)</script>")
    return {
        "jpeg.png": encoded(image, "JPEG"),
        "webp.gif": encoded(image, "WEBP"),
        "16 bits.png": encoded(Image.fromarray(deep)),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),  # inverted, with Adobe's marker
        "palette.png": encoded(palette, transparency=3),
        "animated.gif": frames("GIF"),
        "animated.webp": frames("WEBP"),
        "animated.png": frames("PNG"),
        "one.png": encoded(Image.new("RGB", (1, 1), (200, 0, 0))),
        "line.png": encoded(Image.new("RGB", (20_000, 3), (0, 90, 0))),
        "pole.png": encoded(Image.new("RGB", (3, 20_000), (0, 0, 90))),
        "text.png": png(24, 24, noted),
        "much text.png": png(24, 24, chunk(b"zTXt", b"Comment\0\0" + zeros(2**26))),
        "much profile.png": png(24, 24, chunk(b"iCCP", b"profile\0\0" + zeros(2**26))),
    }


def bad() -> dict[str, bytes]:
    """To be named and left out: file name -> bytes."""
    image = picture(0, 2, 24)
    whole = {form: encoded(image, form) for form in FORMS}
    cut = {f"cut {form}.png": data[: len(data) // 2] for form, data in whole.items()}
    return {
        **cut,
        "empty.jpg": b"",
        "page.jpg": b"<html><script>alert(1)</script>",
        "code.png": b"#!/bin/sh\ntouch mark\n",
        "header.jpg": b"\xff\xd8\xff\xe0",
        "bomb.png": png(20_000, 20_000, rows=zeros(2**24)),
        "bomb.tif": huge_tiff(60_000, 60_000),
        "bomb.gif": huge_gif(65_535, 65_535),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(mark) (w) file\n",
    }


NAMES = (
    "new\nline.png",
    "tab\tand 'quotes' \"of\" `two` kinds.png",
    "double..dots...png",
    "\U0001f9a5 sloth.png",
    "\x1b[31mred\x1b[0m.png",
    "[red]markup[bold].png",
    "<script>alert(1)<|script>.png",
    "$(touch mark).png",
    "%s {label} {0} ${oc.env:HOME}.png",
    "-rf.png",
    "ä" * 125 + ".png",
    "\u202egnp.exe.png",
)
"""Of files. A name is up to 255 bytes long."""

CLASSES = ("<script>alert(1)<|script>", "a...", "-", "$(touch mark)", "%s", "{label}", "[red]")
"""Of folders."""


def strange_names(folder: Path) -> None:
    """A plain image of every strange name, and of one that is not UTF-8."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(NAMES):
        (folder / name).write_bytes(encoded(picture(1, index, 24)))
    (folder / "bytes \udcff\udcfe.png").write_bytes(encoded(picture(1, 99, 24)))
