"""What a run keeps beside its result: examples, the nearest test images, predictions, curves."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """An original with the images that a method made of it, all of them encoded (PNG).

    What the method does not have (a similarity, without captions) is NaN or `None`. `kept` says of
    each image whether the filter let it be trained on.
    """

    method: str
    key: str
    class_name: str
    caption: str
    similarity: float | None
    prompt: str
    guidance_scale: float | None
    strength: float | None
    original: bytes
    images: tuple[bytes, ...]
    kept: tuple[bool, ...]


@dataclass(frozen=True)
class Pair:
    """A generated image and the test image that it is nearest to, with its original if it has one.

    All of them encoded (PNG). `distance` is that of `sgid.evaluation.leakage`; `near` says whether
    it makes a near-copy, `same` whether the pixels are the same.
    """

    method: str
    distance: float
    near: bool
    same: bool
    image: bytes
    test_key: str
    test: bytes
    original: bytes | None


@dataclass(frozen=True)
class Curve:
    """One metric over the optimizer steps of a training."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_examples(folder: Path) -> list[Example]:
    """The originals with their augmented images that a run keeps to show; none if it made none."""
    path = folder / "examples.parquet"
    if not path.is_file():
        return []
    import pyarrow.parquet as pq

    known = [name for name in Example.__dataclass_fields__ if name in pq.read_schema(path).names]
    return [
        Example(
            **{
                **row,
                "images": tuple(row["images"]),
                # Older files have no such column: there was no filter.
                "kept": tuple(row.get("kept") or [True] * len(row["images"])),
            }
        )
        for row in pq.read_table(path, columns=known).to_pylist()
    ]


def read_pairs(folder: Path) -> list[Pair]:
    """The generated images nearest to test images, nearest first; none where that was not kept."""
    path = folder / "nearest.parquet"
    if not path.is_file():
        return []
    import pyarrow.parquet as pq

    return [Pair(**row) for row in pq.read_table(path).to_pylist()]


def read_correct(folder: Path) -> dict[str, bool]:
    """Whether each test image was classified rightly, by key; empty if that was not kept."""
    path = folder / "predictions.parquet"
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    columns = pq.read_table(path, columns=["key", "label", "prediction"]).to_pydict()
    rows = zip(columns["key"], columns["label"], columns["prediction"], strict=True)
    return {key: label == prediction for key, label, prediction in rows}


def read_curves(folder: Path) -> dict[str, Curve]:
    """The metrics that were logged during training, each where it was logged; may be empty."""
    path = folder / "curves.csv"
    if not path.is_file():
        return {}
    points: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    points.setdefault(name, []).append((int(float(row["step"])), float(value)))
    return {
        name: Curve(*(tuple(column) for column in zip(*pairs, strict=True)))
        for name, pairs in points.items()
    }
