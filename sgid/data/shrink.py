"""Copies of images at a smaller size, made once: for small models, and for large photographs."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, final

import PIL
from PIL import Image

from sgid.data.decode import Scale, centre
from sgid.data.image_set import ImageSet, Texts
from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path
from sgid.runtime.terminal import progress
from sgid.runtime.threads import parallel_map

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "image"
BATCH = 1_000
"""Images that are written at a time."""


def named(images: ImageSet, size: int) -> ImageSet:
    """The same images, whose checksums say that they are shrunk to `size`."""
    return replace(images, checksums=Texts(f"{one}@{size}" for one in images.checksums))


def shrink(images: ImageSet, size: int, cache: Path) -> ImageSet:
    """Images whose shorter side has at most `size` pixels, read from a file in `cache`.

    The aspect stays, but for what `centre` cuts; smaller images stay as they are. The file is made
    where it is missing, of lossless copies, and named by the images and what resizes them.

    Args:
        images: a set whose checksums are those of `named`.

    Raises:
        ValueError: if the file cannot be written.
    """
    path = cache / f"{fingerprint([images.digest(), size, PIL.__version__])}.arrow"
    if _rows(path) != len(images):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial:
                _write(partial, images, size)
        except OSError as error:
            raise ValueError(
                f"dataset.size={size}: shrunk images cannot be kept in {cache}: {error}; change "
                "paths.artifacts, or leave dataset.size=null"
            ) from error
    return replace(images, rows=range(len(images)), read=_ArrowReader(path), scale=Scale())


def _rows(path: Path) -> int | None:
    """The number of images in a file; `None` where it is not there, or is damaged."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
    except (OSError, pa.ArrowException):
        return None


def _write(path: Path, images: ImageSet, size: int) -> None:
    import pyarrow as pa

    def one(index: int) -> bytes:
        return _png(images[index].image, size)

    schema = pa.schema([(COLUMN, pa.binary())])
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
        progress("shrink", len(images), "images") as bar,
        closing(parallel_map(one, range(len(images)))) as copies,
    ):
        batch: list[bytes] = []
        for copy in copies:
            batch.append(copy)
            bar.update()
            if len(batch) == BATCH:
                writer.write_batch(pa.record_batch([batch], schema=schema))
                batch = []
        if batch:
            writer.write_batch(pa.record_batch([batch], schema=schema))


def shrunk(image: Image.Image, size: int | None) -> Image.Image:
    """The image with at most `size` pixels in its shorter side; itself without a size."""
    if size is None or min(image.size) <= size:
        return image
    ratio = size / min(image.size)
    width, height = (max(size, round(side * ratio)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _png(image: Image.Image, size: int) -> bytes:
    image = shrunk(centre(image), size)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@final
class _ArrowReader:
    """Reads the bytes of image `i` of a file, which is opened where it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _column(self) -> pa.ChunkedArray:
        import pyarrow as pa

        return pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()[COLUMN]

    def __call__(self, row: int) -> bytes:
        return self._column[row].as_py()

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return _ArrowReader, (self.path,)
