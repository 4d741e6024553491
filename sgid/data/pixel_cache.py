"""Images as pixels in one file, so that none is decoded twice."""

from __future__ import annotations

import mmap
import os
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import PIL
from PIL import Image

from sgid.data.image_set import ImageSet
from sgid.reproducibility import fingerprint
from sgid.runtime.files import atomic_path
from sgid.runtime.terminal import progress
from sgid.runtime.threads import parallel_map


@final
class Decoded:
    """The pictures of `images`; the first of them from a file of pixels, once `keep` has made it.

    The file is mapped into memory, so that worker processes, epochs and runs share its pages, and
    the system may drop them. It is below `folder` and named by what the images are, and holds

        the pixels of the first images, uint8 (H, W, 3) each
        where each of them ends, in bytes, and its width: int64 (images, 2)
        their number: int64

    A file whose parts do not fit each other is none. The rest is decoded each time it is asked for,
    and all of it where `folder` is `None`.
    """

    def __init__(self, images: ImageSet, folder: Path | None) -> None:
        self.images = images
        self.folder = folder
        self.kept: _Kept | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        """The picture at `index`, RGB, the caller's own to write to."""
        if self.kept is not None and index < len(self.kept.table):
            return self.kept.picture(index)
        return self.images[index].image

    def pixels(self, index: int) -> np.ndarray:
        """The picture at `index` as uint8 (H, W, 3), to be read only."""
        if self.kept is not None and index < len(self.kept.table):
            return self.kept.array(index)
        return np.asarray(self.images[index].image)

    def keep(self, limit: float) -> None:
        """Make the file, unless it is there, of as many of the first images as `limit` bytes hold.

        Raises:
            ValueError: if it cannot be written.
        """
        if self.folder is None or limit <= 0 or not len(self):
            return
        try:
            self.kept = _open(self.path)
            if self.kept is None or self._more_fits(limit):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(self.path) as partial:
                    _write(partial, self.images, limit)
                self.kept = _open(self.path)
            os.utime(self.path)  # for `prune`
        except OSError as error:
            raise ValueError(
                f"decoded images cannot be kept in {self.folder}: {error}; trainer.cache_gib=0 "
                "does without them, or change paths.artifacts"
            ) from error

    @property
    def bytes_kept(self) -> int:
        """The size of the file; 0 where there is none."""
        return self.path.stat().st_size if self.folder and self.path.is_file() else 0

    @property
    def path(self) -> Path:
        assert self.folder is not None
        # Another Pillow may decode a JPEG to other pixels.
        return self.folder / f"{fingerprint([self.images.digest(), PIL.__version__])}.pixels"

    def _more_fits(self, limit: float) -> bool:
        assert self.kept is not None
        done = len(self.kept.table)
        if done == len(self):
            return False
        following = self[done]
        end = self.kept.end + 3 * following.width * following.height
        return end + _table_size(done + 1) <= limit

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": self.kept and self.kept.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "kept": state["kept"] and _open(state["kept"])}


class _Kept(NamedTuple):
    """A file that is mapped into memory."""

    path: Path
    pixels: memoryview
    table: np.ndarray  # int64 (images, 2): end, width
    alike: np.ndarray | None  # uint8 (images, H, W, 3) where all are of one size

    @property
    def end(self) -> int:
        return int(self.table[-1, 0]) if len(self.table) else 0

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.array(index))  # which copies

    def array(self, index: int) -> np.ndarray:
        if self.alike is not None:
            return self.alike[index]
        start = int(self.table[index - 1, 0]) if index else 0
        end, width = self.table[index].tolist()
        return np.frombuffer(self.pixels, np.uint8, end - start, start).reshape(-1, width, 3)


def _open(path: Path) -> _Kept | None:
    """`None` for a file that is not there, or that was cut or written over."""
    try:
        with path.open("rb") as stream:
            pixels = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (FileNotFoundError, ValueError):  # the latter for an empty one
        return None
    count = int.from_bytes(pixels[-8:], "little")
    end = len(pixels) - _table_size(count)
    if end < 0:
        return None
    table = np.frombuffer(pixels, "<i8", 2 * count, end).reshape(count, 2)
    ends, widths = table.T
    sizes = np.diff(ends, prepend=0)
    fits = (ends[-1] if count else 0) == end and (widths > 0).all() and (sizes > 0).all()
    if not fits or (sizes % (3 * widths)).any():
        return None
    alike = None
    if count and (widths == widths[0]).all() and (sizes == sizes[0]).all():
        alike = np.frombuffer(pixels, np.uint8, end).reshape(count, -1, int(widths[0]), 3)
    return _Kept(path, pixels, table, alike)


def _write(path: Path, images: ImageSet, limit: float) -> None:
    ends, widths, end = [], [], 0
    with (
        path.open("wb") as stream,
        progress("decode", len(images), "images") as bar,
        closing(_decoded(images)) as decoded,
    ):
        for width, pixels in decoded:
            if end + len(pixels) + _table_size(len(ends) + 1) > limit:
                break
            end += len(pixels)
            stream.write(pixels)
            ends.append(end)
            widths.append(width)
            bar.update()
        table = np.array([ends, widths], "<i8").T
        stream.write(table.tobytes() + len(ends).to_bytes(8, "little"))
        stream.flush()
        os.fsync(stream.fileno())


def _decoded(images: ImageSet) -> Generator[tuple[int, bytes], None, None]:
    """Width and pixels of each image, in order."""

    def one(index: int) -> tuple[int, bytes]:
        picture = images[index].image
        return picture.width, picture.tobytes()

    return parallel_map(one, range(len(images)))


def _table_size(count: int) -> int:
    return 16 * count + 8


def prune(folder: Path, limit: float) -> None:
    """Delete the files in `folder` that were used longest ago, until `limit` bytes are left.

    A process that has one of them mapped goes on reading it.
    """
    files = [(file.stat().st_mtime, file) for file in folder.glob("*.pixels")]
    for _, file in sorted(files, reverse=True):
        limit -= file.stat().st_size
        if limit < 0:
            with suppress(OSError):
                file.unlink()
