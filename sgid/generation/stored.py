"""The images of a generated store as a set to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, final

from sgid.data.images import ImageSet
from sgid.store import Store, replacing

if TYPE_CHECKING:
    import pyarrow as pa


def stored_images(store: Store, class_names: tuple[str, ...]) -> ImageSet:
    """All images of a complete store; keys are `<key of the original>#<repeat>`."""
    table = store.read(["key", "repeat", "label", "checksum"])
    columns = table.to_pydict()
    return ImageSet(
        keys=tuple(
            f"{key}#{repeat}" for key, repeat in zip(columns["key"], columns["repeat"], strict=True)
        ),
        labels=tuple(columns["label"]),
        checksums=tuple(columns["checksum"]),
        class_names=class_names,
        rows=tuple(range(len(table))),
        read=MappedImages(_arrow_copy(store)),
    )


@final
class MappedImages:
    """Reads the encoded bytes of row `i` from a memory-mapped Arrow file.

    Random rows of Parquet cost a row group each; of Arrow they cost a page.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.column: pa.ChunkedArray | None = None

    def __call__(self, row: int) -> bytes:
        if self.column is None:  # opened where it is used: workers open their own
            import pyarrow as pa

            self.column = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all().column(0)
        assert self.column is not None
        return self.column[row].as_py()

    def __getstate__(self) -> dict:
        return {"path": self.path, "column": None}


def _arrow_copy(store: Store) -> Path:
    """`images.arrow` beside the shards; written once, shard by shard, from them."""
    import pyarrow as pa

    path = store.folder / "images.arrow"
    if path.is_file():
        return path
    schema = pa.schema([("image", pa.large_binary())])
    with (
        replacing(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for rows in store.batches(["image"]):
            images = [row["image"]["bytes"] for row in rows]
            writer.write(pa.record_batch([pa.array(images, pa.large_binary())], schema))
    return path
