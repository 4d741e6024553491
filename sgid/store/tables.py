"""Rows of described and generated stores, and complete stores as image sets."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

from sgid.data.image_set import ImageSet
from sgid.methods.describe import choose
from sgid.records import Described, EdgeMap, Generated, ImagePrompt
from sgid.reproducibility import CODE, fingerprint
from sgid.runtime.files import atomic_path, file_lock
from sgid.store.store import CorruptStore, Store

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image


T = TypeVar("T")

log = logging.getLogger(__name__)

IMAGE = "image.bytes"


COLUMNS = ["key", "repeat", "label", "checksum", IMAGE]
WEIGHTS = "label_weights"


@final
class StoredDescriptions(Sequence[Described]):
    """Records of a complete described store; the last few shards read stay in memory.

    Args:
        caption: which of an image's captions is taken, one of `sgid.methods.describe.CAPTIONS`.
        seed: of the draw, where that is `random`.
    """

    def __init__(self, store: Store, *, caption: str, seed: int) -> None:
        self.store = store
        self.caption = caption
        self.seed = seed
        self._shard: Callable[[int], list[Described]] = lru_cache(maxsize=4)(self._read)

    def __len__(self) -> int:
        return self.store.rows

    @overload
    def __getitem__(self, index: int) -> Described: ...
    @overload
    def __getitem__(self, index: slice) -> list[Described]: ...
    def __getitem__(self, index: int | slice) -> Described | list[Described]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        shard, row = divmod(range(len(self))[index], self.store.shard_size)
        return self._shard(shard)[row]

    def similarities(self) -> NDArray[np.float64]:
        """Similarities (N,) of the caption chosen for each image."""
        if self.caption != "random":
            columns = [table["similarity"] for table in self.store.tables(["similarity"])]
            return np.concatenate([column.to_numpy() for column in columns])
        shards = (self._read(shard) for shard in range(self.store.shards))
        return np.fromiter((one.similarity for some in shards for one in some), np.float64)

    def _read(self, shard: int) -> list[Described]:
        found = []
        for _, row in self.store.rows_at(self.store.range(shard)):
            candidates, scores = tuple(row.pop("candidates")), tuple(row.pop("scores"))
            described = Described(**row, candidates=candidates, scores=scores)
            found.append(choose(described, self.caption, self.seed))
        return found


def open_generated(path: Path, *, option: str) -> Store:
    """The complete store of generated images in a folder, which `option` names.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is no such store, or was made by another version.
    """
    import pyarrow as pa

    path = path.expanduser()
    if not path.is_dir():
        raise FileNotFoundError(
            f"{option}={path} is not a folder. It takes artifacts/generated/<fingerprint>"
        )
    if not (path / "spec.json").is_file():
        within = sorted(one.parent.name for one in path.glob("*/spec.json"))
        hint = f": take one of the stores in it, {', '.join(within[:5])}" if within else ""
        raise ValueError(f"{option}={path} is no store of generated images{hint}")
    if not (path / "manifest.json").is_file():
        raise ValueError(
            f"{option}={path} is a store that is not finished: run again what makes it, then give "
            "it"
        )
    spec = json.loads((path / "spec.json").read_text(encoding="utf-8"))
    if spec.get("kind") != "generated":
        raise ValueError(f"{option}={path} is a store of {spec.get('kind')}: take one of generated")
    if (code := spec.get("code")) != CODE:
        which = "an earlier" if (code or 0) < CODE else "a later"
        raise ValueError(
            f"{option}={path} was made by {which} version of sgid: generate its images again"
        )
    if fingerprint(spec) != path.resolve().name:
        raise ValueError(f"{option}={path}: a store's folder is to be named {fingerprint(spec)}")
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    where = path.resolve().parent
    return Store(where, spec, pa.schema([]), manifest["rows"], manifest["shard_size"])


def stored_class_names(store: Store) -> tuple[str, ...]:
    """The names of the classes 0, 1, ... of a store; of one that has no image, its number."""
    table = store.read(["label", "class_name"])
    names = dict(zip(table["label"].to_pylist(), table["class_name"].to_pylist(), strict=True))
    return tuple(names.get(label, f"class {label}") for label in range(max(names) + 1))


def source_digest(store: Store) -> str | None:
    """The digest of the images that a generated store was made of, or `None` if that lies in
    descriptions that are gone.
    """
    described = store.parent.parent / "described" / str(store.spec.get("described"))
    spec = described / "spec.json"
    if "images" in store.spec or not spec.is_file():
        return store.spec.get("images")
    return json.loads(spec.read_text(encoding="utf-8"))["images"]


def stored_images(store: Store, class_names: tuple[str, ...]) -> ImageSet:
    """All images of a complete store; keys are `<key of the original>#<repeat>`.

    None of it is held in memory: it is read from `rows.arrow`, a copy of the store that is made
    here once. Random rows of Parquet cost a row group each; of Arrow they cost a page.
    """
    rows = MappedRows(_arrow_copy(store))
    rows.require_whole()
    numbers = {
        name: store.read([name])[name].to_numpy()
        for name in ("strength", "score")
        if name in store.columns
    }
    weights = None
    if WEIGHTS in store.columns:
        pairs = store.read([WEIGHTS])[WEIGHTS].to_pylist()
        weights = [{pair["label"]: pair["weight"] for pair in row} for row in pairs]
    return ImageSet(
        keys=_Column(rows, ("key", "repeat"), _key),
        labels=_Column(rows, ("label",), int),
        checksums=_Column(rows, ("checksum",), str),
        class_names=class_names,
        rows=range(store.rows),
        read=rows,
        label_weights=weights,
        numbers=numbers,
    )


@final
class MappedRows:
    """Memory-mapped Arrow file; called with a row, it returns the encoded bytes of its image.

    It is opened where it is used, so that worker processes open their own.

    Raises:
        CorruptStore: if the file is cut off. It is removed: it is only a copy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def table(self) -> pa.Table:
        import pyarrow as pa

        return pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()

    def require_whole(self) -> None:
        """Open the file. It has no checksums: it was made of shards that have."""
        import pyarrow as pa

        try:
            whole = self.table.column_names == COLUMNS
        # What Arrow finds wrong has no number; too many open files, or no permission, has.
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise self._damaged(str(error)) from error
        if not whole:
            raise self._damaged("other columns")

    def __call__(self, row: int) -> bytes:
        return self.table[IMAGE][row].as_py()

    def _damaged(self, what: str) -> CorruptStore:
        self.path.unlink(missing_ok=True)
        return CorruptStore(
            f"{self.path} was damaged ({what}). It is removed, and the same command makes it again "
            "from its shards"
        )

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return MappedRows, (self.path,)


@final
class _Column(Sequence[T], Generic[T]):
    """Sequence of `make(*columns)` of the rows, computed on access."""

    def __init__(self, rows: MappedRows, names: Sequence[str], make: Callable[..., T]) -> None:
        self.rows = rows
        self.names = list(names)
        self.make = make

    def __len__(self) -> int:
        return len(self.rows.table)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.make(*(self.rows.table[name][index].as_py() for name in self.names))

    def __iter__(self) -> Iterator[T]:
        for batch in self.rows.table.select(self.names).to_batches():
            yield from map(self.make, *(column.to_pylist() for column in batch.columns))


def accepted(store: Store) -> NDArray[np.bool_] | None:
    """(rows,): the images that the selection of the method accepted; `None` where it has none."""
    if "accepted" not in store.columns:
        return None
    return np.asarray(store.read(["accepted"])["accepted"].to_pylist(), bool)


def _key(key: str, repeat: int) -> str:
    return f"{key}#{repeat}"


def _arrow_copy(store: Store) -> Path:
    """Path of `rows.arrow`, which is copied from the shards once."""
    path = store.folder / "rows.arrow"
    if not path.is_file():
        with file_lock(
            store.folder / ".rows.lock",
            on_wait=lambda: log.info("another process copies %s: waiting", store.folder),
        ):
            for left in store.folder.glob(".rows.arrow.*.tmp"):  # of a process that was killed
                left.unlink(missing_ok=True)
            if not path.is_file():
                _copy(store, path)
    return path


def _copy(store: Store, path: Path) -> None:
    import pyarrow as pa

    shards = (shard.flatten().select(COLUMNS) for shard in store.tables([*COLUMNS[:-1], "image"]))
    first = next(shards)
    with (
        atomic_path(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, first.schema.remove_metadata()) as writer,
    ):
        for shard in chain([first], shards):
            writer.write_table(shard)
        writer.close()
        sink.flush()
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())


FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},
    "webp": {"format": "WEBP", "lossless": True, "method": 0},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def encode(image: Image.Image, format: str) -> bytes:
    """The file of an image, in one of `FORMATS`."""
    buffer = io.BytesIO()
    image.save(buffer, **FORMATS[format])
    return buffer.getvalue()


def schema(
    *,
    targets: bool = False,
    negatives: bool = False,
    adapters: bool = False,
    selected: bool = False,
    image_prompts: bool = False,
    edges: bool = False,
    edited: bool = False,
    changed: bool = False,
) -> pa.Schema:
    """The columns of a generated store; `datasets.load_dataset("parquet")` decodes `image`.

    Args:
        targets: whether images may be of other classes than their originals.
        negatives: whether there are negative prompts.
        adapters: whether images are drawn with LoRAs.
        selected: whether images were selected among several, or may be rejected.
        image_prompts, edges: whether images are drawn with training images as prompts, or along
            their edges.
        edited: whether images are edits, with a guidance scale towards their original.
        changed: whether requests may have a second prompt, followed later or in a part of the image.
    """
    import pyarrow as pa

    text, real, whole = pa.string(), pa.float64(), pa.int64()
    some: dict[str, Any] = {}
    if targets:
        some["source_class"] = text
        some["label_weights"] = pa.list_(pa.struct({"label": whole, "weight": real}))
    if negatives:
        some["negative_prompt"] = text
    if adapters:
        some["adapters"] = pa.list_(pa.struct({"file": text, "scale": real}))
    if selected:
        some |= {"attempts": whole, "accepted": pa.bool_(), "score": real}
    for name, there in (("image_prompt", image_prompts), ("edges", edges)):
        if there:
            some[name] = pa.struct({"key": text, "scale": real})
    if edited:
        some["image_guidance_scale"] = real
    if changed:
        some["second_prompt"] = text
    return _with_features(
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
            "image": pa.struct({"bytes": pa.binary(), "path": text}),
            "width": whole,
            "height": whole,
            "checksum": text,
            **some,
        }
    )


def _with_features(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    """Schema with the metadata that `datasets.Features` writes, which takes a second to import."""
    import pyarrow as pa

    features = {name: _feature(kind) for name, kind in columns.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(columns.items(), metadata=metadata)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    import pyarrow as pa

    if isinstance(kind, pa.StructType):
        fields = {field.name: field.type for field in kind}
        if list(fields) == ["bytes", "path"]:
            return {"_type": "Image"}
        return {name: _feature(one) for name, one in fields.items()}
    if isinstance(kind, pa.ListType):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    dtype = "float64" if pa.types.is_float64(kind) else str(kind)
    return {"dtype": dtype, "_type": "Value"}


def to_row(generated: Generated, *, format: str) -> dict[str, Any]:
    """Row of one image; `checksum` is the SHA-256 of the encoded bytes.

    `format` is one of `FORMATS`; png and webp are lossless.
    """
    request, described = generated.request, generated.request.described
    data = encode(generated.image, format)
    return {
        "key": described.key,
        "repeat": request.repeat,
        "label": request.label,
        "class_name": request.class_name,
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
        # Columns that a store may have.
        "source_class": described.class_name,
        "label_weights": [{"label": one, "weight": w} for one, w in request.label_weights.items()],
        "negative_prompt": request.negative_prompt,
        "adapters": [{"file": one.file.name, "scale": one.scale} for one in request.adapters],
        "attempts": generated.attempts,
        "accepted": generated.accepted,
        "score": generated.score,
        "image_prompt": _condition(request.image_prompt),
        "edges": _condition(request.edges),
        "image_guidance_scale": request.image_guidance_scale,
        "second_prompt": second.prompt if (second := request.later or request.blend) else None,
    }


def _condition(given: ImagePrompt | EdgeMap | None) -> dict[str, Any] | None:
    return None if given is None else {"key": given.key, "scale": given.scale}
