"""`stage=data dataset.show=KEY`: one image of a dataset, its captions, and its generated images."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from rich.console import Console

from sgid.data.dataset import Dataset
from sgid.data.decode import decode
from sgid.data.listing import Splits
from sgid.evaluation.filters import ClipScores
from sgid.evaluation.store_summary import png
from sgid.records import Sample
from sgid.reporting.figure_files import encode
from sgid.reporting.format import ABSENT, call_text, value_text
from sgid.reporting.image_grids import example_grid
from sgid.reporting.results import Example
from sgid.reporting.table import Cell, Table
from sgid.reproducibility import CODE, fingerprint
from sgid.runtime.files import write_atomic
from sgid.stages.store_evaluation import CLIP_SCORES, Filter
from sgid.store.reviews import read_reviews, rejected
from sgid.store.store import Store

OPTION = "dataset.show"

DRAWN = 10
"""Generated images of a store in the picture, at most; the tables list all."""


@dataclass(frozen=True)
class StoredRows:
    """The rows that a complete store has of one image, by their numbers in the store."""

    store: Store
    rows: Mapping[int, dict[str, Any]]


def show_image(
    key: str,
    dataset: Dataset,
    splits: Splits,
    *,
    artifacts: Path,
    filter: dict[str, Any],
    console: Console,
) -> Path:
    """Print all that is known of the image with this key; the picture (PNG) in `artifacts`/data.

    Captions and generated images are those of stores that were made of the training images of
    `dataset`, whatever their method and options. `filter` is the config node of a filter or empty:
    it decides which generated images are trained on.

    Raises:
        ValueError: if no image has the key, with the nearest keys, or it cannot be decoded.
    """
    key, split, sample = _find(key, dataset, splits)
    width, height = sample.image.size
    title = f"{key} · {sample.class_name} · {split}, {width} × {height} px"
    console.print(title, style="bold", markup=False, highlight=False)
    stores = list(_stores(key, dataset, artifacts)) if split == "training image" else []
    for one in stores:
        if one.store.spec["kind"] == "described":
            _captions(one).print(console)
    examples = []
    for one in stores:
        if one.store.spec["kind"] == "generated":
            trained = _trained_on(one, filter)
            _generated(one, trained).print(console)
            examples.append(_example(one, trained, sample))
    if split == "training image" and not examples:
        text = "No finished store has images generated from it; stage=augment generates them."
        console.print(text, markup=False, highlight=False)
    alone = Example(
        "original", key, sample.class_name, "", None, "", None, None, png(sample.image), (), ()
    )
    figure = example_grid(examples or [alone], repeats=DRAWN)
    name = f"{dataset.name}-{re.sub(r'[^A-Za-z0-9.-]+', '_', key)[-60:]}-{fingerprint(key)[:6]}.png"
    path = artifacts / "data" / name
    write_atomic(path, encode(figure))
    console.print(f"picture: {path}", markup=False, highlight=False)
    return path


def _find(key: str, dataset: Dataset, splits: Splits) -> tuple[str, str, Sample]:
    """The key as the dataset has it, the role of the image in a run, and the image."""
    roles = {
        "training image": dataset.train,
        "validation image": dataset.validation,
        "test image": dataset.test,
    }
    original = re.sub(r"#\d+$", "", key)  # of a generated image
    listed = splits.present().values()
    for wanted in dict.fromkeys((key, original)):
        for role, images in roles.items():
            if wanted in images.keys:
                return wanted, role, images[list(images.keys).index(wanted)]
        for listing in listed:
            if wanted in listing.keys:
                images = replace(listing.images(listing.stamps), scale=dataset.train.scale)
                try:
                    sample = images[list(listing.keys).index(wanted)]
                except Exception as error:
                    raise ValueError(f"{OPTION}={wanted}: it cannot be read: {error}") from error
                return wanted, "not in this run: other images are drawn or it is left out", sample
    keys = [one for listing in listed for one in listing.keys]
    near = ", ".join(nearest_keys(original, keys))
    raise ValueError(
        f"{OPTION}={key}: no image of {dataset.name} has this key"
        + (f"; did you mean {near}?" if near else f"; keys are such as {keys[0]}")
    )


def nearest_keys(key: str, keys: Sequence[str], count: int = 3) -> list[str]:
    """Up to `count` of the keys that are most like `key`: first those that contain it."""
    containing = [one for one in keys if key.lower() in one.lower()][:count]
    if containing or len(keys) > 100_000:  # likeness takes 20 µs a key and more
        return containing
    return difflib.get_close_matches(key, keys, n=count, cutoff=0.5)


def _stores(key: str, dataset: Dataset, artifacts: Path) -> Iterator[StoredRows]:
    """Rows of the image in the complete stores that were made of these training images."""
    import pyarrow as pa

    images = dataset.train.digest()
    described: set[str] = set()
    for kind in ("described", "generated"):
        for file in sorted((artifacts / kind).glob("*/spec.json")):
            spec = json.loads(file.read_text(encoding="utf-8"))
            if spec.get("images") != images and spec.get("described") not in described:
                continue
            if spec.get("code") != CODE:  # of an earlier version: no run trains on it
                continue
            if kind == "described":
                described.add(file.parent.name)
            manifest = file.parent / "manifest.json"
            if not manifest.is_file():
                continue
            size = json.loads(manifest.read_text(encoding="utf-8"))
            store = Store(file.parent.parent, spec, pa.schema([]), size["rows"], size["shard_size"])
            keys = (one for table in store.tables(["key"]) for one in table["key"].to_pylist())
            numbers = [row for row, one in enumerate(keys) if one == key]
            if numbers:
                yield StoredRows(store, dict(store.rows_at(numbers)))


def _captions(found: StoredRows) -> Table:
    """The candidate captions of an image and their CLIP similarities; the chosen one is bold."""
    (row,) = found.rows.values()
    pairs = zip(row["candidates"], row["scores"], strict=True)
    rows = [
        (Cell(f"{score:.3f}", caption == row["caption"]), Cell(caption, caption == row["caption"]))
        for caption, score in pairs
    ]
    note = f"Bold: the best, by CLIP. Store: {found.store.folder}"
    return Table("Captions", ("similarity", "caption"), tuple(rows), (note,))


def _generated(found: StoredRows, trained: Sequence[str]) -> Table:
    """The generated images of an image, with what steered each of them."""
    rows = list(found.rows.values())
    prompts = {row["prompt"] for row in rows}
    headers = ("image", "class", "noise rate", "guidance", "seed", "size in px", "trained on")
    cells = [
        (
            Cell(str(row["repeat"])),
            Cell(row["class_name"]),
            Cell(value_text(row["strength"])),
            Cell(ABSENT if np.isnan(row["guidance_scale"]) else f"{row['guidance_scale']:.2f}"),
            Cell(str(row["seed"])),
            Cell(f"{row['width']} × {row['height']}"),
            Cell(said),
            *([Cell(row["prompt"])] if len(prompts) > 1 else []),
        )
        for row, said in zip(rows, trained, strict=True)
    ]
    notes = [f"Prompt: {prompt or 'no text'}" for prompt in prompts] if len(prompts) == 1 else []
    return Table(
        f"Generated by {found.store.spec['method']}",
        headers if notes else (*headers, "prompt"),
        tuple(cells),
        (*notes, f"Store: {found.store.folder}"),
    )


def _trained_on(found: StoredRows, filter: dict[str, Any]) -> list[str]:
    """`yes`, or the reason why not, for each row: what `filter` makes of CLIP's scores."""
    if not filter:
        return ["yes"] * len(found.rows)
    files = sorted(found.store.folder.glob(CLIP_SCORES), key=lambda file: file.stat().st_mtime)
    if not files:  # no run with a filter has looked at this store
        return ["unknown: no run with a filter has scored it"] * len(found.rows)
    chosen = Filter(instantiate(filter), call_text(filter))
    with np.load(files[-1]) as arrays:
        scores = ClipScores(**arrays)
    kept = chosen.mask(scores, found.store, rejected(read_reviews(found.store.folder)))
    return ["yes" if kept[row] else f"no: dropped by {chosen.text}" for row in found.rows]


def _example(found: StoredRows, trained: Sequence[str], sample: Sample) -> Example:
    rows = list(found.rows.values())
    shared = ("caption", "similarity", "prompt", "guidance_scale", "strength")
    return Example(
        method=found.store.spec["method"],
        key=sample.key,
        class_name=sample.class_name,
        **{name: rows[0][name] for name in shared},
        original=png(sample.image),
        images=tuple(png(decode(row["image"]["bytes"])) for row in rows),
        kept=tuple(not said.startswith("no:") for said in trained),
    )
