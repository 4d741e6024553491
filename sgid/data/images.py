"""A set of labelled images that are decoded only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

from sgid.data.decode import decode
from sgid.fingerprint import fingerprint
from sgid.records import Sample


@final
@dataclass(frozen=True)
class ImageSet:
    """`len(keys)` labelled images.

    `read(i)` gives the encoded bytes (JPEG, PNG, WebP ...) of image `i` of the *source*; `rows[j]`
    is the source's index of this set's image `j`, so that a selection shares its source.
    `checksums[j]` is a hash of those bytes.
    """

    keys: tuple[str, ...]
    labels: tuple[int, ...]
    checksums: tuple[str, ...]
    class_names: tuple[str, ...]
    rows: tuple[int, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`, decoded to RGB."""
        label = self.labels[index]
        image = decode(self.read(self.rows[index]))
        return Sample(self.keys[index], image, label, self.class_names[label])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def select(self, indices: Sequence[int]) -> ImageSet:
        """The images at `indices`, in that order."""
        return replace(
            self,
            keys=tuple(self.keys[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            checksums=tuple(self.checksums[i] for i in indices),
            rows=tuple(self.rows[i] for i in indices),
        )

    def digest(self) -> str:
        """A fingerprint of the images, their labels and the class names."""
        return fingerprint(
            [self.class_names, list(zip(self.keys, self.labels, self.checksums, strict=True))]
        )


def join(first: ImageSet, second: ImageSet) -> ImageSet:
    """The images of both, in that order, as one set; they have the same classes and other keys."""
    assert first.class_names == second.class_names
    offset = max(first.rows, default=-1) + 1
    return ImageSet(
        keys=first.keys + second.keys,
        labels=first.labels + second.labels,
        checksums=first.checksums + second.checksums,
        class_names=first.class_names,
        rows=first.rows + tuple(offset + row for row in second.rows),
        read=_JoinedReader(first.read, second.read, offset),
    )


@final
@dataclass(frozen=True)
class _JoinedReader:
    """Rows below `offset` are read by `first`, the others, less `offset`, by `second`."""

    first: Callable[[int], bytes]
    second: Callable[[int], bytes]
    offset: int

    def __call__(self, row: int) -> bytes:
        return self.first(row) if row < self.offset else self.second(row - self.offset)
