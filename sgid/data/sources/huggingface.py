"""Any image classification set of the Hugging Face hub, or in a folder that `datasets` can load.

It is read from the hub, its cache or a folder, never by running its code.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.data.image_set import Texts
from sgid.data.listing import Listing, Splits, read, stamp, words

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


KEYS = ("key", "id", "image_id", "file_name", "filename")
"""Columns that may identify a row, if their values are unique."""

log = logging.getLogger(__name__)


def image_column(part: Dataset, name: str | None) -> str:
    from datasets import Image

    images = [column for column, kind in part.features.items() if isinstance(kind, Image)]
    return _only(part, "image", name, images, "holds images")


def label_column(part: Dataset, name: str | None) -> str:
    from datasets import ClassLabel, Value

    features = part.features
    labels = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    values = [
        column
        for column, kind in features.items()
        if isinstance(kind, Value)
        and (kind.dtype.startswith(("int", "uint")) or kind.dtype in ("string", "large_string"))
        and column not in KEYS
    ]
    if name is not None:
        return _only(part, "label", name, labels + values, "holds classes")
    return _only(part, "label", None, labels or values, "holds classes")


def _only(part: Dataset, option: str, name: str | None, fit: list[str], what: str) -> str:
    """The column `name`, or the only one of `fit`."""
    columns = ", ".join(f"{column} ({_kind(kind)})" for column, kind in part.features.items())
    if name is not None:
        if name in fit:
            return name
        raise ValueError(f"dataset.source.{option}={name} is no column that {what}: {columns}")
    if len(fit) == 1:
        return fit[0]
    problem = f"{len(fit)} columns could be meant" if fit else f"no column {what}"
    raise ValueError(f"{problem}; say which with dataset.source.{option}=. There are {columns}")


def _kind(feature: Any) -> str:
    return (
        getattr(feature, "dtype", "")
        if type(feature).__name__ == "Value"
        else type(feature).__name__
    )


def class_names_in(part: Dataset, label: str) -> dict[Any, str]:
    """What the label column holds -> the name of the class, in the order of the labels."""
    from datasets import ClassLabel

    feature = part.features[label]
    if isinstance(feature, ClassLabel):
        names = {number: words(name) for number, name in enumerate(feature.names)}
    else:
        values = sorted(value for value in part.unique(label) if value is not None)
        names = {value: words(str(value)) for value in values}
        log.warning(
            "column %s does not name its classes, so its %d values are their names: %s ...",
            label,
            len(names),
            ", ".join(list(names.values())[:5]),
        )
    if len(names) < 2:
        raise ValueError(
            f"column {label} holds one class only; dataset.source.label= names another"
        )
    if len(set(names.values())) < len(names):
        raise ValueError(f"column {label} has classes with the same name: {list(names.values())}")
    if codes := [name for name in names.values() if not re.search(r"[^\W\d_]{2}", name)]:
        log.warning(
            "%d class names are no words, such as %r: prompts can do nothing with them",
            len(codes),
            codes[0],
        )
    return names


USAGE = """\
Say which set with dataset.source.id=: a name on the Hugging Face hub (uoft-cs/cifar10), a folder
that was written by save_to_disk or holds Parquet files or images, or a Parquet file."""


def load(
    id: str | None, *, download: bool, config: str | None, revision: str | None
) -> dict[str, Dataset]:
    """The parts of the set `id` by name, memory-mapped.

    Raises:
        FileNotFoundError: if it is not there, or cannot be fetched.
        ValueError: if it cannot be loaded as it is asked for.
    """
    from datasets import Dataset, load_dataset, load_from_disk

    if not id:
        raise FileNotFoundError(f"dataset.source.id is not given.\n{USAGE}")
    place = Path(id).expanduser().absolute()
    try:
        if place.is_file():
            found: Any = load_dataset("parquet", data_files=str(place))
        elif (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
            found = load_from_disk(place)
        elif place.is_dir():
            found = load_dataset(str(place), name=config)
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w-]+", id):
            raise FileNotFoundError(f"dataset.source.id={id} is not there.\n{USAGE}")
        else:
            found = _from_hub(id, download, config, revision)
    except FileNotFoundError as error:
        if place.exists():
            raise FileNotFoundError(f"dataset.source.id={id} is incomplete: {error}") from error
        raise
    except Exception as error:  # of many kinds, by what is wrong and by the library's version
        raise ValueError(f"dataset.source.id={id} cannot be loaded: {error}") from error
    parts = {"train": found} if isinstance(found, Dataset) else found
    return {str(name): part for name, part in parts.items()}


def _from_hub(id: str, download: bool, config: str | None, revision: str | None) -> Any:
    """The set `id` of the hub as it was fetched last; with `download`, fetched now."""
    from datasets.packaged_modules.cache.cache import Cache

    if download:
        _fetch(id, config, revision)
    cached = _cached(id, config, revision)
    if not cached:
        options = f" dataset.source.config={config}" if config else ""
        options += f" dataset.source.revision={revision}" if revision else ""
        command = f"python run.py stage=data dataset=hub dataset.source.id={id}{options}"
        raise FileNotFoundError(
            f"{id}{options and f' with{options}'} is not in the cache of the Hugging Face hub.\n"
            f"Fetch it: {command}\n{USAGE}"
        )
    configs = sorted({place.parts[-3] for place in cached})
    if len(configs) > 1:
        raise ValueError(f"say which with dataset.source.config=; there are {', '.join(configs)}")
    name, version, commit = max(cached, key=lambda place: place.stat().st_mtime).parts[-3:]
    # This class never asks the hub, whatever the environment says.
    builder = Cache(
        dataset_name=id.rpartition("/")[2],
        repo_id=id,
        config_name=name,
        version=version,
        hash=commit,
    )
    return builder.as_dataset()


def _fetch(id: str, config: str | None, revision: str | None) -> None:
    """Put the set into the cache, or mark it there as the one that was fetched last."""
    from datasets import load_dataset

    try:
        parts = load_dataset(id, name=config, revision=revision)
    except ValueError:  # there is no such configuration, or it must be said which
        raise
    except Exception as error:  # the network's or the hub's, of any kind
        cause = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{id} could not be fetched from the Hugging Face hub: {cause}\n"
            "The same command tries again. A copy from another machine does as well: there\n"
            f"  hf download {id} --repo-type dataset --local-dir DIR\n"
            "and here dataset.source.id=DIR."
        ) from error
    for part in parts.values():
        for file in part.cache_files:
            os.utime(Path(file["filename"]).parent)


def _cached(id: str, config: str | None, revision: str | None) -> list[Path]:
    """The folders `.../<config>/<version>/<commit>` of the cache that hold the set."""
    from datasets.config import HF_DATASETS_CACHE
    from datasets.naming import camelcase_to_snakecase

    *owner, name = id.split("/")
    top = Path(HF_DATASETS_CACHE) / "___".join((*owner, camelcase_to_snakecase(name)))
    commit = _commit(id, revision) if revision else "*"
    places = top.glob(f"{config or '*'}/*/{commit}")
    return [place for place in places if (place / "dataset_info.json").is_file()]


def _commit(id: str, revision: str) -> str:
    """The commit that the branch or tag `revision` was at when it was fetched; or itself."""
    from huggingface_hub.constants import HF_HUB_CACHE

    name = "--".join(("datasets", *id.split("/")))
    reference = Path(HF_HUB_CACHE) / name / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else revision
