"""A generated image as a row of the store, and back."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

from sgid.records import Generated

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},
    "webp": {"format": "WEBP", "lossless": True, "method": 0},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def schema() -> pa.Schema:
    """The columns of a generated store; `datasets.load_dataset("parquet")` decodes `image`."""
    from datasets import Features, Image, Value

    text, real, whole = Value("string"), Value("float64"), Value("int64")
    return Features(
        {
            "key": text,
            "repeat": whole,
            "label": whole,
            "class_name": text,
            "caption": text,
            "similarity": real,
            "prompt": text,
            "guidance_scale": real,
            "strength": real,
            "seed": whole,
            "method": text,
            "dtype": text,
            "image": Image(),
            "width": whole,
            "height": whole,
            "checksum": text,
        }
    ).arrow_schema


def to_row(generated: Generated, *, format: str) -> dict[str, Any]:
    """The row of one image; `checksum` is the SHA-256 of the encoded bytes.

    `format` is one of `FORMATS`; png and webp are lossless.
    """
    request, described = generated.request, generated.request.described
    buffer = io.BytesIO()
    generated.image.save(buffer, **FORMATS[format])
    data = buffer.getvalue()
    return {
        "key": described.key,
        "repeat": request.repeat,
        "label": request.label,
        "class_name": described.class_name,
        "caption": described.caption,
        "similarity": described.similarity,
        "prompt": request.prompt,
        "guidance_scale": request.guidance_scale,
        "strength": request.strength,
        "seed": request.seed,
        "method": request.method,
        "dtype": generated.dtype,
        "image": {"bytes": data, "path": None},
        "width": generated.image.width,
        "height": generated.image.height,
        "checksum": hashlib.sha256(data).hexdigest(),
    }
