"""Sets as the Hugging Face hub and its library keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sgid.data.decode import decode
from tests.data.formats.written import Written, scene
from tests.data.writers import encoded, picture

NAMES = ["tabby_cat", "basset", "horse"]


def parts_of(**counts: int) -> tuple[Any, Written]:
    """A `DatasetDict` with columns `image` and `label`, `counts` images per class in each split."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    parts, written, first = {}, {}, 0
    for split, count in counts.items():
        rows = []
        written[split] = {}
        for index in range(first, first + count):
            for label, name in enumerate(NAMES):
                data = encoded(scene(label, index))
                pixels = np.asarray(decode(data))
                written[split][f"{split}/{len(rows)}"] = (name.replace("_", " "), pixels)
                rows.append({"image": {"bytes": data, "path": None}, "label": label})
        first += count
        parts[split] = Dataset.from_list(rows, features=features)
    return DatasetDict(parts), written


def write_hub(root: Path, *, train: int, validation: int, test: int) -> Written:
    """A folder from `save_to_disk`."""
    parts, written = parts_of(train=train, validation=validation, test=test)
    parts.save_to_disk(root)
    return written


def write_hub_parquet(root: Path, *, train: int, validation: int, test: int) -> Written:
    """A folder of Parquet files, as a set of the hub is one."""
    parts, written = parts_of(train=train, validation=validation, test=test)
    (root / "data").mkdir(parents=True)
    for split, part in parts.items():
        part.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    return written


def saved(folder, rows, features, split="train"):
    """`rows` of columns `features`, written by `save_to_disk`; the folder as text."""
    from datasets import Dataset, DatasetDict, Features

    part = Dataset.from_list(rows, features=Features(features))
    DatasetDict({split: part}).save_to_disk(folder)
    return str(folder)


def rows_of(labels, **columns):
    cells = [
        {"image": {"bytes": encoded(picture(0, row)), "path": None}, "label": label}
        for row, label in enumerate(labels)
    ]
    for name, values in columns.items():
        for cell, value in zip(cells, values, strict=True):
            cell[name] = value
    return cells
