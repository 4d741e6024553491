"""Any image classification set of the Hugging Face hub, or in a folder that `datasets` can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.data.image_set import Texts
from sgid.data.listing import Listing, Splits, read, stamp
from sgid.data.sources.hub_columns import KEYS, class_names_in, image_column, label_column
from sgid.data.sources.hub_load import load

if TYPE_CHECKING:
    from datasets import Dataset

# The names that a split goes by, the usual one first.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def hub(
    id: str | None,
    download: bool = False,
    *,
    config: str | None = None,
    revision: str | None = None,
    image: str | None = None,
    label: str | None = None,
    train: str | None = None,
    validation: str | bool | None = None,
    test: str | bool | None = None,
) -> Splits:
    """List the set `id`; nothing is fetched unless `download` says so.

    `image` and `label` name columns, and are found by their types where they are `None`; `train`,
    `validation` and `test` name splits, found by their names. `False` leaves a split out.
    `config` (the hub calls it subset) and `revision` are the hub's.

    Raises:
        FileNotFoundError: if it is not there, or cannot be fetched.
        ValueError: if a column or split that is named is not there, or none is and several could
            be meant, or images have no label.
    """
    parts = load(id, download=download, config=config, revision=revision)
    chosen = _splits(parts, {"train": train, "validation": validation, "test": test})
    first = parts[chosen["train"]]
    image = image_column(first, image)
    label = label_column(first, label)
    class_names = class_names_in(first, label)
    listings = {
        split: _listing(f"{id} ({name})", parts[name], split, image, label, class_names)
        for split, name in chosen.items()
    }
    renamed = [f"{split} is the split {name}" for split, name in chosen.items() if split != name]
    return Splits(
        listings["train"],
        listings.get("validation"),
        listings.get("test"),
        note=", ".join(renamed),
    )


def _splits(parts: dict[str, Dataset], named: Mapping[str, str | bool | None]) -> dict[str, str]:
    """Our splits and their names in the set."""
    there = ", ".join(parts)
    chosen: dict[str, str] = {}
    for split, name in named.items():
        if isinstance(name, str):
            if name not in parts:
                raise ValueError(f"dataset.source.{split}={name} is none of its splits: {there}")
            chosen[split] = name
    for split, names in SPLITS.items():
        if named[split] is None:
            free = [name for name in names if name in parts and name not in chosen.values()]
            if free:
                chosen[split] = free[0]
    if "train" not in chosen and len(parts) == 1:
        chosen["train"] = next(iter(parts))
    if "train" not in chosen:
        raise ValueError(
            f"the set has the splits {there}: say which to train on with dataset.source.train="
        )
    if len(set(chosen.values())) < len(chosen):
        given = ", ".join(f"{split}={name}" for split, name in chosen.items())
        raise ValueError(f"one split is used twice: {given} (options of dataset.source)")
    return dict(sorted(chosen.items(), key=lambda item: list(SPLITS).index(item[0])))


def _listing(
    origin: str, part: Dataset, split: str, image: str, label: str, class_names: dict[Any, str]
) -> Listing:
    from datasets import ClassLabel, Image

    if missing := {image, label} - set(part.column_names):
        raise ValueError(f"{origin} has no column {', '.join(missing)}")
    if isinstance(part.features[label], ClassLabel) and class_names_in(part, label) != class_names:
        raise ValueError(
            f"{origin} numbers its classes in another way than the train split: give all splits "
            "one ClassLabel (cast_column), or keep the names themselves as text"
        )
    labels = part.with_format(None).select_columns(label)[:][label]
    number = {value: index for index, value in enumerate(class_names)}
    if unknown := sum(value not in number for value in labels):
        leave_out = f", or leave it out: dataset.source.{split}=false" if split != "train" else ""
        raise ValueError(
            f"{origin}: {unknown:,} of {len(labels):,} images have no label, or one that is none "
            f"of the {len(number)} classes of train; mend the set{leave_out}"
        )
    # The rows of a part are in memory-mapped files, whatever the size of the set.
    files = [stamp(file["filename"]) for file in part.cache_files]
    return Listing(
        origin=origin,
        keys=Texts(f"{split}/{key}" for key in _keys(part)),
        labels=tuple(number[value] for value in labels),
        stamps=(" ".join(files),) * len(part),
        class_names=tuple(class_names.values()),
        read=HubReader(part.select_columns(image).cast_column(image, Image(decode=False)), image),
    )


def _keys(part: Dataset) -> list[Any]:
    """The values of the first column that identifies rows; or else their numbers."""
    for column in KEYS:
        if column in part.column_names and hasattr(part.features[column], "dtype"):
            values = part.with_format(None).select_columns(column)[:][column]
            if None not in values and len(set(values)) == len(values):
                return values
    return list(range(len(part)))


@final
@dataclass(frozen=True)
class HubReader:
    """Reads the bytes of row `i` of a memory-mapped `Dataset` with an undecoded image `column`.

    Only the names of the mapped files travel to other processes.
    """

    rows: Dataset
    column: str

    def __call__(self, index: int) -> bytes:
        cell = self.rows[index][self.column]
        if cell is None:
            raise ValueError("the row holds no image")
        if cell["bytes"] is not None:
            return cell["bytes"]
        return read(Path(cell["path"]))
