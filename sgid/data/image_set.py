"""A set of labelled images that are decoded only when they are asked for."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import final, overload

from sgid.data.decode import Scale, decode
from sgid.records import Sample


@final
@dataclass(frozen=True)
class ImageSet:
    """`len(keys)` labelled images.

    `read(i)` gives the encoded bytes (JPEG, PNG, WebP ...) of image `i` of the *source*; `rows[j]`
    is the source's index of this set's image `j`, so that a selection shares its source.
    `checksums[j]` is a hash of those bytes, `scale` what is black and white in those of more than 8
    bits. The columns of a set of millions are not tuples, but what takes less memory: `Texts`, a
    `range`, an array, or a view of a file. `label_weights[j]` are the shares of classes in image
    `j`, which sum to 1, where `labels` do not say it all, and `numbers` are columns that training
    may ask for by name: `strength` and `score` of generated images.
    """

    keys: Sequence[str]
    labels: Sequence[int]
    checksums: Sequence[str]
    class_names: tuple[str, ...]
    rows: Sequence[int]
    read: Callable[[int], bytes]
    scale: Scale = Scale()
    label_weights: Sequence[Mapping[int, float]] | None = None
    numbers: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`, decoded to RGB."""
        label = self.labels[index]
        image = decode(self.read(self.rows[index]), self.scale)
        return Sample(self.keys[index], image, label, self.class_names[label])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def select(self, indices: Sequence[int]) -> ImageSet:
        """The images at `indices`, in that order."""
        weights = self.label_weights
        return replace(
            self,
            label_weights=weights and [weights[i] for i in indices],
            numbers={name: [one[i] for i in indices] for name, one in self.numbers.items()},
            keys=Texts(self.keys[i] for i in indices),
            labels=array("q", (self.labels[i] for i in indices)),
            checksums=Texts(self.checksums[i] for i in indices),
            rows=array("q", (self.rows[i] for i in indices)),
        )

    def digest(self) -> str:
        """A fingerprint of the images, their labels, the class names and the scale."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        """`fingerprint([class_names, [[key, label, checksum], ...]])`, row by row."""
        say = json.JSONEncoder(separators=(",", ":")).encode
        digest = hashlib.sha256(f"[{say(self.class_names)},[".encode())
        comma = ""
        for row in zip(self.keys, self.labels, self.checksums, strict=True):
            digest.update(f"{comma}{say(row)}".encode())
            comma = ","
        digest.update(b"]]")
        if self.scale != Scale():
            digest.update(say(self.scale).encode())
        return digest.hexdigest()[:16]


def join(first: ImageSet, second: ImageSet) -> ImageSet:
    """Join two sets of the same classes and scale and of different keys, in that order."""
    assert first.class_names == second.class_names and first.scale == second.scale
    offset = max(first.rows, default=-1) + 1
    return ImageSet(
        keys=Texts(chain(first.keys, second.keys)),
        labels=array("q", chain(first.labels, second.labels)),
        checksums=Texts(chain(first.checksums, second.checksums)),
        class_names=first.class_names,
        rows=array("q", chain(first.rows, (offset + row for row in second.rows))),
        read=_JoinedReader(first.read, second.read, offset),
        scale=first.scale,
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


@final
class Texts(Sequence[str]):
    """Strings as their bytes end to end; equal to any sequence of the same strings.

    A tuple of a million keys is 80 MB, this is 8 MB more than their characters.
    """

    __slots__ = ("_data", "_ends")

    def __init__(self, strings: Iterable[str] = ()) -> None:
        data, ends = bytearray(), array("q", [0])
        for string in strings:
            data += string.encode("utf-8", "surrogatepass")  # file names may hold lone surrogates
            ends.append(len(data))
        self._data = bytes(data)
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> str | Texts:
        places = range(len(self))[index]
        if isinstance(places, range):
            return Texts(self[place] for place in places)
        return self._text(self._ends[places], self._ends[places + 1])

    def __iter__(self) -> Iterator[str]:
        return (self._text(start, end) for start, end in pairwise(self._ends))

    def __add__(self, more: Iterable[str]) -> Texts:
        return Texts(text for texts in (self, more) for text in texts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Texts({list(self[:5])}{' ...' if len(self) > 5 else ''})"

    def _text(self, start: int, end: int) -> str:
        return self._data[start:end].decode("utf-8", "surrogatepass")
