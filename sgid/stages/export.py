"""`stage=export store=PATH export.to=DIR`: the images of a store as other programs read them.

Four forms: `imagefolder` (class folders, `metadata.csv` in each split), `yolo` (the same folders,
one `metadata.csv` at the top), `webdataset` (tar shards) and `datasets` (Parquet shards that
`load_dataset` opens). Images that people rejected are in none. A folder is of one export alone:
what is there of it is not written again, and anything else in it is an error.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import ExifTags, Image
from rich.console import Console
from tqdm import tqdm

import sgid
from sgid.data.dataset import Dataset
from sgid.data.decode import decode
from sgid.data.image_set import ImageSet
from sgid.models.weights import licence as licence_of
from sgid.models.weights import read_json
from sgid.reporting.results import load_results
from sgid.reproducibility import commit, fingerprint
from sgid.runtime.files import atomic_path, file_lock, write_atomic
from sgid.runtime.terminal import progress
from sgid.stages.store_evaluation import CLIP_SCORES
from sgid.store.reviews import read_reviews
from sgid.store.store import ROW_GROUP, Store
from sgid.store.tables import FORMATS, accepted, encode, source_digest, stored_class_names

ABOUT: dict[str, type] = {
    "class_name": str,
    "synthetic": bool,
    "original": str,
    "repeat": int,
    "method": str,
    "prompt": str,
    "negative_prompt": str,
    "second_prompt": str,
    "caption": str,
    "similarity": float,
    "guidance_scale": float,
    "strength": float,
    "seed": int,
    "cosine": float,
    "nearest_class": str,
    "accepted": str,
    "label_weights": str,
}
"""The columns that every form has of each image, and their types; docs/export.md explains them."""

NOTHING: dict[type, Any] = {str: "-", int: -1, float: ""}
"""In `metadata.csv`, for what an image does not have: pandas reads every split with equal types."""

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""The names of splits in files, and those of a dataset."""

RECORD, CARD, LOCK = "export.json", "README.md", ".lock"
"""Files of every export: what it is of, its dataset card, and the lock while it is written."""

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
FOLDERS = ("imagefolder", "yolo")

PIECE = 256
"""Images that are read at a time."""


@dataclass(frozen=True)
class Item:
    """An image of an export: `row` of the store, or `index` in the dataset's split.

    `stem` is its file's name without extension, which no other image has.
    """

    split: str
    label: int
    stem: str
    about: dict[str, Any]
    row: int | None = None
    index: int | None = None


def export(
    store: Store,
    dataset: Dataset,
    to: Path,
    console: Console,
    *,
    format: str,
    originals: bool,
    size: str,
    licence: str | None,
    kept: Callable[[], NDArray[np.bool_] | None] | None = None,
    results: Path | None = None,
) -> None:
    """Write a complete store of generated images to the folder `to`; what is there is kept.

    Args:
        dataset: the images that it was made of; another is as good where these are not needed.
        format: imagefolder, webdataset, datasets or yolo.
        originals: whether training images are exported too, and the validation and test images.
        size: `generator`, or `original`: generated images are brought to their originals' sizes.
        licence: that of the dataset, for the card.
        kept: the mask (rows,) of the images that a filter keeps.
        results: where runs of this store may be, whose options a message names.

    Raises:
        ValueError: if originals or scores are needed and the dataset is another one, if no image is
            left, or if there are other files in the folder.
    """
    linked = source_digest(store) == dataset.train.digest()
    needs = {"export.originals=true": originals, "export.size=original": size == "original"}
    needs["filter"] = kept is not None
    if not linked and (asked := [option for option, needed in needs.items() if needed]):
        raise ValueError(
            f"{asked[0]} needs the images that the store was made of, and these are not the "
            f"{len(dataset.train):,} training images of {dataset.name}: add the options of the run "
            f"that made it (dataset, dataset.root, dataset.shots, seed){_run_of(store, results)}"
        )
    names = dataset.class_names if linked else stored_class_names(store)
    items, left_out = _generated(store, names, kept() if kept else None)
    told = "".join(f"; {count:,} {why}" for why, count in left_out.items() if count)
    if not items:
        raise ValueError(f"store={store.folder}: of {store.rows:,} images none is left{told}")
    if originals:
        items += _originals(dataset)
    files = _Files(store, dataset, to, format, size, names, items)
    files.check()
    to.mkdir(parents=True, exist_ok=True)
    waiting = f"another process exports to {to}: waiting"
    with file_lock(to / LOCK, on_wait=lambda: console.print(waiting, markup=False)):
        written = files.write()
        card = _card(files, dataset if linked else None, licence)
        write_atomic(to / CARD, card.encode())
        about = {"sgid": sgid.__version__, "commit": commit(), "counts": files.counts}
        _write_json(to / RECORD, {**files.spec, **about, "finished": True})
        (to / LOCK).unlink()
    drawn = sum(item.row is not None for item in items)
    with_originals = f" and {len(items) - drawn:,} originals" if originals else ""
    console.print(
        f"{to}: {drawn:,} generated images{with_originals} as {format}, {written:,} files of them "
        f"written now{told}",
        markup=False, highlight=False,
    )  # fmt: skip


REFUSED = "that the method's own selection refused are left out"
REJECTED = "rejected by people are left out"
DROPPED = "dropped by the filter are left out"


def _generated(
    store: Store, names: Sequence[str], kept: NDArray[np.bool_] | None
) -> tuple[list[Item], dict[str, int]]:
    """The images to export, and how many are left out, by the reason."""
    reviews, scores, passed = read_reviews(store.folder), _scores(store), accepted(store)
    columns = [name for name in store.columns if name not in ("image", "checksum")]

    def nearest(label: int) -> str:  # perhaps a class of which nothing was drawn
        return names[label] if label < len(names) else f"class {label}"

    items: list[Item] = []
    left_out: dict[str, int] = dict.fromkeys((REFUSED, REJECTED, DROPPED), 0)
    for number, row in enumerate(store.read(columns).to_pylist()):
        verdict = reviews.get((row["key"], row["repeat"]))
        if passed is not None and not passed[number]:
            left_out[REFUSED] += 1
        elif verdict == "reject":
            left_out[REJECTED] += 1
        elif kept is not None and not kept[number]:
            left_out[DROPPED] += 1
        else:
            weights = row.get("label_weights") or [{"label": row["label"], "weight": 1.0}]
            about = {
                "class_name": row["class_name"],
                "synthetic": True,
                "original": row["key"],
                **{name: row[name] for name in ("repeat", "method", "prompt", "caption", "seed")},
                **{name: row.get(name) for name in ("negative_prompt", "second_prompt")},
                **{name: row[name] for name in ("similarity", "guidance_scale", "strength")},
                "cosine": None if scores is None else float(scores["cosines"][number]),
                "nearest_class": None
                if scores is None
                else nearest(int(scores["nearest"][number])),
                "accepted": "yes" if verdict == "accept" else None,
                "label_weights": _weights({one["label"]: one["weight"] for one in weights}, names),
            }
            stem = f"{_stem(row['key'])}-{row['repeat']}"
            items.append(Item("train", row["label"], stem, _whole(about), row=number))
    return items, left_out


def _originals(dataset: Dataset) -> list[Item]:
    items = []
    for split, part in SPLITS.items():
        images: ImageSet = getattr(dataset, part)
        for index, (key, label) in enumerate(zip(images.keys, images.labels, strict=True)):
            about = {
                "class_name": images.class_names[label],
                "synthetic": False,
                "original": key,
                "method": "original",
                "label_weights": _weights({label: 1.0}, images.class_names),
            }
            items.append(Item(split, label, _stem(key), _whole(about), index=index))
    return items


def _whole(about: Mapping[str, Any]) -> dict[str, Any]:
    """All columns in their order; `None` for what is not there."""
    whole = {}
    for name in ABOUT:
        value = about.get(name)
        missing = value == "" or (isinstance(value, float) and math.isnan(value))
        whole[name] = None if missing else value
    return whole


def _weights(weights: Mapping[int, float], names: Sequence[str]) -> str:
    return json.dumps(
        {names[label]: weight for label, weight in weights.items()}, ensure_ascii=False
    )


def _stem(key: str) -> str:
    """A name for the files of an image that every file system and program takes."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', key)[-40:].strip('_')}-{fingerprint(key)}"


def _scores(store: Store) -> Mapping[str, NDArray] | None:
    """CLIP's scores of each row, where a run has left them beside the store."""
    files = sorted(store.folder.glob(CLIP_SCORES), key=lambda file: file.stat().st_mtime)
    if not files:
        return None
    with np.load(files[-1]) as arrays:
        return dict(arrays)


def _run_of(store: Store, results: Path | None) -> str:
    """The options of a run that trained on the store, as a hint."""
    for result in load_results(results) if results and results.is_dir() else ():
        if any(Path(one.path).name == store.folder.name for one in result.generated):
            return f", as {' '.join(result.overrides)}"
    return ""


@dataclass(frozen=True)
class _Files:
    """The files of an export; one that is there whole is left as it is."""

    store: Store
    dataset: Dataset
    to: Path
    format: str
    size: str
    names: Sequence[str]
    items: Sequence[Item]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """All that determines the files."""
        return {
            "store": self.store.folder.name,
            "content": self.store.content,
            "format": self.format,
            "size": self.size,
            "images": fingerprint([[one.split, one.stem, one.about] for one in self.items]),
        }

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """The numbers of generated images and originals in each split that has any."""
        drawn = Counter(item.split for item in self.items if item.row is not None)
        others = Counter(item.split for item in self.items if item.row is None)
        there = [split for split in SPLITS if drawn[split] + others[split]]
        return {one: {"generated": drawn[one], "originals": others[one]} for one in there}

    @cached_property
    def class_folders(self) -> list[str]:
        """The folder of each class, as all file systems take it."""
        folders: list[str] = []
        for label, name in enumerate(self.names):
            plain = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name).strip(". ") or "_"
            taken = {other.casefold() for other in folders}
            folders.append(f"{plain} ({label})" if plain.casefold() in taken else plain)
        return folders

    @cached_property
    def shards(self) -> dict[str, list[Item]]:
        """The items of each shard, by the name of its file."""
        shards = {}
        for split in self.counts:
            mine = [item for item in self.items if item.split == split]
            starts = range(0, len(mine), self.store.shard_size)
            for number, start in enumerate(starts):
                name = {
                    "webdataset": f"{split}-{number:06}.tar",
                    "datasets": f"data/{split}-{number:05}-of-{len(starts):05}.parquet",
                }[self.format]
                shards[name] = mine[start : start + self.store.shard_size]
        return shards

    def check(self) -> None:
        """Raise a `ValueError` if the folder holds anything but a part of this export."""
        if self.to.exists() and not self.to.is_dir():
            raise ValueError(f"export.to={self.to} is a file: give a folder")
        before = read_json(self.to / RECORD)
        if isinstance(before, dict) and "store" in before:
            if other := [name for name in self.spec if before.get(name) != self.spec[name]]:
                raise ValueError(
                    f"export.to={self.to} holds another export ({', '.join(other)} differ; "
                    "reviews, scores, filter and originals count as images): give a new folder"
                )
            expected = self._names()
        else:
            expected = set()
        found = (path.relative_to(self.to) for path in self.to.rglob("*") if path.is_file())
        foreign = sorted(
            path.as_posix()
            for path in found
            if not path.name.startswith(".") and path.with_suffix("").as_posix() not in expected
        )
        if foreign:
            more = f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else ""
            raise ValueError(
                f"export.to={self.to} has other files ({', '.join(foreign[:3])}{more}), with which "
                "an export is not mixed: give a new folder"
            )

    def _names(self) -> set[str]:
        """The names of all files of the export, without extensions."""
        names = {Path(RECORD).stem, Path(CARD).stem}
        if self.format not in FOLDERS:
            return names | {Path(name).with_suffix("").as_posix() for name in self.shards}
        tables = self.counts if self.format == "imagefolder" else [""]
        names |= {(Path(table) / "metadata").as_posix() for table in tables}
        return names | {self._place(item) for item in self.items}

    def _place(self, item: Item) -> str:
        return f"{item.split}/{self.class_folders[item.label]}/{item.stem}"

    def write(self) -> int:
        """Write all that is missing; the number of files of images that were."""
        for left in self.to.rglob(".*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        if not (self.to / RECORD).is_file():
            _write_json(self.to / RECORD, {**self.spec, "finished": False})
        with progress("export", len(self.items), "images") as bar:
            return self._write_folders(bar) if self.format in FOLDERS else self._write_shards(bar)

    def _write_folders(self, bar: tqdm) -> int:
        written = 0
        tables: dict[str, list[dict[str, Any]]] = {}
        partial = self.to / ".image.tmp"
        for start in range(0, len(self.items), PIECE):
            for item, data, extension in self._load(self.items[start : start + PIECE]):
                name = f"{self._place(item)}.{extension}"
                path = self.to / name
                if not path.is_file() or path.stat().st_size != len(data):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    partial.write_bytes(data)
                    os.replace(partial, path)
                    written += 1
                table = item.split if self.format == "imagefolder" else ""
                inside = name.removeprefix(f"{table}/")
                tables.setdefault(table, []).append({"file_name": inside, **item.about})
                bar.update()
        for table, rows in tables.items():
            write_atomic(self.to / table / "metadata.csv", _csv(rows))
        return written

    def _write_shards(self, bar: tqdm) -> int:
        write = _write_tar if self.format == "webdataset" else _write_parquet
        written = 0
        for name, items in self.shards.items():
            path = self.to / name
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as partial, partial.open("wb") as stream:
                    write(stream, self._load(items), self.names)
                    stream.flush()
                    os.fsync(stream.fileno())
                written += 1
            bar.update(len(items))
        return written

    def _load(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes, str]]:
        """Each item with its encoded image, and the extension of its file."""
        drawn = {item.row: item for item in items if item.row is not None}
        for number, row in self.store.rows_at(list(drawn), ["image"]):
            yield drawn[number], *self._drawn(drawn[number], row["image"]["bytes"])
        for item in items:
            if item.index is not None:
                yield item, *portable(getattr(self.dataset, SPLITS[item.split]), item.index)

    def _drawn(self, item: Item, data: bytes) -> tuple[bytes, str]:
        form = self.store.spec["format"]
        image, size = None, None
        if self.size == "original":
            size = self._size_of(item.about["original"])
        # Readers of class folders, timm's for one, may know PNG and JPEG alone.
        to_png = form == "webp" and self.format in FOLDERS
        if size is not None or to_png:
            image = decode(data)
            form = "png" if to_png else form
            if size is not None and size != image.size:
                image = image.resize(size, Image.Resampling.LANCZOS)
            elif not to_png:
                image = None  # the bytes are right
        return data if image is None else encode(image, form), EXTENSIONS[FORMATS[form]["format"]]

    def _size_of(self, key: str) -> tuple[int, int]:
        """The size of an original, (width, height); rows of one original follow each other."""
        if key not in self._size:
            self._size.clear()
            self._size[key] = self.dataset.train[self._index[key]].image.size
        return self._size[key]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {key: index for index, key in enumerate(self.dataset.train.keys)}

    @cached_property
    def _size(self) -> dict[str, tuple[int, int]]:
        return {}


def portable(images: ImageSet, index: int) -> tuple[bytes, str]:
    """The encoded bytes and extension of an image: as it is, if every program reads it alike; else
    as a run sees it, as PNG.
    """
    data = images.read(images.rows[index])
    with suppress(OSError), Image.open(io.BytesIO(data)) as opened:
        upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
        whole = opened.mode == "RGB" and getattr(opened, "n_frames", 1) == 1
        if (
            opened.format in ("PNG", "JPEG")
            and upright
            and whole
            and not opened.info.get("transparency")
        ):
            return data, EXTENSIONS[opened.format]
    return encode(images[index].image, "png"), "png"


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["file_name", *ABOUT], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        nothing = {name: NOTHING.get(kind, "") for name, kind in ABOUT.items()}
        writer.writerow({name: nothing[name] if value is None else value
                         for name, value in row.items()})  # fmt: skip
    return buffer.getvalue().encode()


def _write_tar(
    stream: IO[bytes], loaded: Iterable[tuple[Item, bytes, str]], names: Sequence[str]
) -> None:
    """Samples of WebDataset: `<name>.png`, `<name>.cls` (the label's number), `<name>.json`."""
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for item, data, extension in loaded:
            about = json.dumps({**item.about, "label": item.label}, ensure_ascii=False)
            parts = {extension: data, "cls": str(item.label).encode(), "json": about.encode()}
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{item.stem}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _write_parquet(
    stream: IO[bytes], loaded: Iterable[tuple[Item, bytes, str]], names: Sequence[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Value
    from datasets import Image as ImageFeature

    kinds = {str: "string", bool: "bool", int: "int64", float: "float64"}
    columns = {name: Value(kinds[kind]) for name, kind in ABOUT.items()}
    schema = Features(
        {"image": ImageFeature(), "label": ClassLabel(names=list(names)), **columns}
    ).arrow_schema
    rows = [
        {"image": {"bytes": data, "path": f"{item.stem}.{extension}"}, "label": item.label}
        | item.about
        for item, data, extension in loaded
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), stream, row_group_size=ROW_GROUP)


def _card(files: _Files, dataset: Dataset | None, licence: str | None) -> str:
    """The dataset card: the head that the Hugging Face hub reads, and a page for people."""
    store = files.store
    models = _models(store)
    of_data = licence or "unknown: ask who made the images"
    licences = {
        f"original images ({dataset.name if dataset else 'not named in the export'})": of_data,
        **{f"{role}: {_name(weights)}": licence_of(weights) for role, weights in models.items()},
    }
    free = all(value.startswith("MIT") for value in licences.values())
    patterns = {
        "imagefolder": "{}/**", "yolo": "{}/**", "webdataset": "{}-*.tar",
        "datasets": "data/{}-*.parquet",
    }  # fmt: skip
    head = {
        "license": "mit" if free else "other",
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "image-augmentation"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": SPLITS[split], "path": patterns[files.format].format(split)}
                    for split in files.counts
                ],
            }
        ],
    }
    total = sum(sum(one.values()) for one in files.counts.values())
    drawn = sum(one["generated"] for one in files.counts.values())
    per_class = Counter((item.label, item.row is not None) for item in files.items
                        if item.split == "train")  # fmt: skip
    rows = [f"| {split} | {one['generated']:,} | {one['originals']:,} |"
            for split, one in files.counts.items()]  # fmt: skip
    classes = [
        f"| {label} | {name} | {per_class[label, True]:,} | {per_class[label, False]:,} |"
        for label, name in enumerate(files.names)
    ]
    made = {key: value for key, value in store.spec.items() if key != "kind"}
    return "\n".join([
        "---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---",
        "",
        f"# {dataset.name if dataset else 'Images'}, augmented by {store.spec['method']}",
        "",
        f"**Synthetic images.** {drawn:,} of {total:,} images were drawn by a diffusion model from "
        "the label and, where the method says so, the caption and the pixels of an original. They "
        "are no photographs, and may show what no original shows. `synthetic` says of each image "
        "whether it is one of them.",
        "",
        "| split | generated | originals |", "|---|---|---|", *rows,
        "",
        "| label | class | generated, train | originals, train |", "|---|---|---|---|", *classes,
        "",
        "## Licences",
        "",
        "| of | licence |", "|---|---|",
        *(f"| {what} | {value} |" for what, value in licences.items()),
        "",
        "## Making",
        "",
        f"SGID {sgid.__version__}, commit {commit() or 'unknown'}; store {store.folder.name}, "
        f"content {store.content}; size: {files.size}.",
        "",
        "```json", json.dumps(made, indent=2, ensure_ascii=False), "```", "",
    ])  # fmt: skip


def _models(store: Store) -> dict[str, dict[str, Any]]:
    """The weights of the models that a store was made by, by their role."""
    file = store.parent.parent / "described" / str(store.spec.get("described")) / "spec.json"
    described = read_json(file) or {}
    found = {"generator": store.spec["engine"]}
    found |= {role: described[role] for role in ("captioner", "scorer") if role in described}
    return {role: weights for role, one in found.items() if (weights := _weights_in(one))}


def _weights_in(identity: Any) -> dict[str, Any] | None:
    """The identity of weights, wherever it is in that of a model."""
    if not isinstance(identity, dict):
        return None
    if isinstance(identity.get("weights"), dict):
        return identity["weights"]
    return next((found for one in identity.values() if (found := _weights_in(one))), None)


def _name(weights: Mapping[str, Any]) -> str:
    if "id" in weights:
        variant = f", {weights['variant']}" if "variant" in weights else ""
        return f"{weights['id']} at {weights['revision']}{variant}"
    if "checkpoint" in weights:
        return f"a local checkpoint in one file, SHA-256 {weights['checkpoint']}"
    return f"a local {weights['layout']} model, content {weights['content']}"
