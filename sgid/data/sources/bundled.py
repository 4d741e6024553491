"""Images in Parquet files, one per split, as `datasets` writes them: the bundled Fashion-MNIST."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, final

from sgid.data.image_set import Texts
from sgid.data.listing import Listing, Splits, stamp

if TYPE_CHECKING:
    import pyarrow as pa


def fashion() -> Splits:
    """Fashion-MNIST at 32×32: 10 classes; 5,000 to train, 2,000 to validate, 10,000 to test."""
    splits = parquet(Path(str(files("sgid") / "assets" / "fashion")))
    return splits.each(lambda listing: replace(listing, checked=True))  # by a test


COLUMNS = ("image", "label", "key")


def parquet(folder: Path) -> Splits:
    """List `folder/train.parquet` and, where they are, `validation.parquet`, `test.parquet`.

    Columns: `image` (struct with the encoded `bytes`), `label` (a `ClassLabel`: the class names
    come from the file's metadata) and `key` (text, stable).

    Raises:
        FileNotFoundError: if there is no `train.parquet`.
        ValueError: if a file has other columns, no class names, or other ones than `train`.
    """
    files = {split: folder / f"{split}.parquet" for split in ("train", "validation", "test")}
    if not files["train"].is_file():
        raise FileNotFoundError(f"{files['train']} does not exist")
    listings = {split: _listing(file) for split, file in files.items() if file.is_file()}
    for listing in listings.values():
        if listing.class_names != listings["train"].class_names:
            raise ValueError(f"{listing.origin} has other classes than {files['train']}")
    return Splits(listings["train"], listings.get("validation"), listings.get("test"))


def _listing(file: Path) -> Listing:
    import pyarrow.parquet as pq

    schema = pq.read_schema(file)
    if missing := sorted(set(COLUMNS) - set(schema.names)):
        raise ValueError(f"{file} has no column {', '.join(missing)}; needed are {COLUMNS}")
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        class_names = tuple(features["label"]["names"])
    except KeyError as error:
        raise ValueError(f"{file} does not name its classes: label is no ClassLabel") from error
    table = pq.ParquetFile(file).read(columns=["label", "key"])
    keys, labels = table["key"].to_pylist(), table["label"].to_pylist()
    if unknown := set(labels) - set(range(len(class_names))):
        raise ValueError(f"{file} has labels {unknown} that are none of its {len(class_names)}")
    return Listing(
        origin=str(file.absolute()),
        keys=Texts(keys),
        labels=tuple(labels),
        stamps=(stamp(file),) * len(keys),
        class_names=class_names,
        read=ParquetReader(file),
    )


@final
@dataclass(frozen=True)
class ParquetReader:
    """Reads the bytes of image `i` of a Parquet file.

    The column is held in memory from the first read on: a row of its own cannot be had from
    Parquet without decompressing its neighbours. It does not travel to other processes.
    """

    file: Path

    @cached_property
    def _bytes(self) -> pa.ChunkedArray:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.file).read(columns=["image"]).flatten()["image.bytes"]

    def __call__(self, index: int) -> bytes:
        data = self._bytes[index].as_py()
        if data is None:
            raise ValueError("the row holds no image bytes")
        return data

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return ParquetReader, (self.file,)
