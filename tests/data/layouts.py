"""Folders of images from a line each: `layout(tmp_path, "train/cat*3 Testing/cat*2 cat/x.heic")`.

A word is a path below the folder. `cat*3` is a class folder with three images that no other class
has; `cat/x.png` is an image; `cat/x.png=dog/y.png` is a copy of another; `cat/` is an empty folder;
a file with another extension holds a few bytes of that name, `x.png:KIND` one of `KINDS`. A blank
in a name is written `␣`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.writers import encoded, picture


def deep(high: int, kind: type = np.uint16) -> bytes:
    """A grey ramp from 0 to `high` as a PNG of 16 bits, or as a TIFF of another kind."""
    ramp = np.linspace(0, high, 16 * 16).reshape(16, 16).astype(kind)
    return encoded(Image.fromarray(ramp), "PNG" if kind is np.uint16 else "TIFF")


def tiff(bands: int, colour: tuple[int, ...], *, extra: int | None = None) -> bytes:
    """A TIFF of 8-bit bands, 9 x 9; `extra` is what its ExtraSamples say."""
    import struct

    tags = {256: 9, 257: 9, 259: 1, 262: 2, 277: bands, 278: 9, 279: 81 * bands}
    tags[338 if extra is not None else 284] = extra if extra is not None else 1
    count = len(tags) + 2
    end = 10 + 12 * count
    bits = end + 4
    tags[273] = bits + 2 * bands
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries[258] = struct.pack("<HHII", 258, 3, bands, bits)
    body = b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    depth = struct.pack(f"<{bands}H", *[8] * bands)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + body + depth + bytes(colour) * 81


KINDS: dict[str, Callable[[], bytes]] = {
    "12bit": lambda: deep(4000),
    "int32": lambda: deep(250, np.int32),
    "float": lambda: deep(1, np.float32),
    "float255": lambda: deep(240, np.float32),
    "black": lambda: encoded(Image.new("RGB", (16, 16))),
    "dot": lambda: encoded(Image.new("RGB", (1, 1), "red")),
    "pages": lambda: encoded(
        picture(0, 0), "TIFF", save_all=True, append_images=[picture(0, 1), picture(0, 2)]
    ),
    "lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "5bands": lambda: tiff(5, (1, 2, 3, 4, 5), extra=0),
    "4bands": lambda: tiff(4, (10, 20, 30, 40)),
    "jpeg": lambda: encoded(picture(8, 8), "JPEG"),
    "html": lambda: b"<!DOCTYPE html><html>404</html>",
}


def layout(root: Path, line: str) -> Path:
    """Write the folder that `line` describes."""
    root.mkdir(parents=True, exist_ok=True)
    copies = []
    for number, word in enumerate(line.split()):
        word = word.replace("␣", " ")
        path, _, source = word.partition("=")
        if source:
            copies.append((path, source))
            continue
        path, _, kind = path.partition(":")
        path, _, count = path.partition("*")
        place = root / path
        if count:
            place.mkdir(parents=True, exist_ok=True)
            for index in range(int(count)):
                picture(number, index).save(place / f"{index:02}.png")
            continue
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        known = place.suffix.lower() in (".png", ".jpg", ".bmp", ".tif", ".webp", ".gif")
        image = encoded(picture(number, 900)) if known else place.name.encode()
        place.write_bytes(KINDS[kind]() if kind else image)
    for path, source in copies:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / source, root / path)
    return root
