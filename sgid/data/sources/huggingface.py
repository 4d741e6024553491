"""Any image classification set of the Hugging Face hub, or in a folder that `datasets` can load.

It is read from the hub, its cache or a folder, never by running its code.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.data.classes import name_classes
from sgid.data.image_set import Texts
from sgid.data.listing import Listing, Splits, read, stamp
from sgid.data.sources.download import MissingImages
from sgid.data.sources.folder import count_images, files_below, folder, split_of
from sgid.runtime.terminal import program

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
    classes: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    image: str | None = None,
    label: str | None = None,
    train: str | None = None,
    validation: str | bool | None = None,
    test: str | bool | None = None,
) -> Splits:
    """List the set `id`; nothing is fetched unless `download` says so.

    A folder of images in class folders is listed as `sgid.data.sources.folder` does it. `classes`
    is a table of the words of the classes. `image` and `label` name columns, and are found by
    their types where they are `None`; `train`,
    `validation` and `test` name splits, found by their names. `False` leaves a split out.
    `config` (the hub calls it subset) and `revision` are the hub's.

    Raises:
        FileNotFoundError: if it is not there, or cannot be fetched.
        ValueError: if a column or split that is named is not there, or none is and several could
            be meant, or images have no label.
    """
    named = {"train": train, "validation": validation, "test": test}
    if id and _is_folder_of_images(place := Path(id).expanduser().absolute()):
        options = {"config": config, "revision": revision, "image": image, "label": label}
        if given := [f"dataset.source.{name}={value}" for name, value in options.items() if value]:
            raise ValueError(
                f"{', '.join(given)}: {place} holds images in folders, which have no columns"
            )
        return folder(str(place), classes=classes, **named)  # pyright: ignore[reportArgumentType]
    parts = load(id, download=download, config=config, revision=revision)
    chosen = _splits(parts, named)
    first = parts[chosen["train"]]
    image = image_column(first, image)
    label = label_column(first, label)
    names = class_names_in(first, label)
    labels = {
        split: _labels(f"{id} ({name})", parts[name], split, image, label, names)
        for split, name in chosen.items()
    }
    used = set().union(*labels.values())
    remarks = []
    if empty := [name for value, name in names.items() if value not in used]:
        remarks.append(f"left out: classes without an image: {', '.join(empty[:5])}")
        names = {value: name for value, name in names.items() if value in used}
    if len(names) < 2:
        raise ValueError(
            f"column {label} holds one class only; dataset.source.label= names another"
        )
    naming = name_classes(list(names.values()), classes, where=f"column {label} of {id}")
    words = list(dict.fromkeys(text.words for text in naming.texts.values()))
    text_of = naming.by_words()
    number = {value: words.index(naming.texts[name].words) for value, name in names.items()}
    listings = {
        split: _listing(
            f"{id} ({name})",
            parts[name],
            split,
            image,
            tuple(number[value] for value in labels[split]),
            tuple(words),
        )
        for split, name in chosen.items()
    }
    renamed = [f"{split} is the split {name}" for split, name in chosen.items() if split != name]
    unused = [name for name in parts if name not in chosen.values() and False not in named.values()]
    if unused:
        remarks.append(f"left out: the splits {', '.join(unused)}, which are none of ours by name")
    return Splits(
        listings["train"],
        listings.get("validation"),
        listings.get("test"),
        note=", ".join(renamed),
        remarks=(*remarks, *naming.remarks),
        texts=tuple(text_of[one] for one in words),
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


def _labels(
    origin: str, part: Dataset, split: str, image: str, label: str, names: dict[Any, str]
) -> list[Any]:
    """The values of the label column, each of which is one of `names`."""
    from datasets import ClassLabel

    if missing := {image, label} - set(part.column_names):
        raise ValueError(f"{origin} has no column {', '.join(missing)}")
    if isinstance(part.features[label], ClassLabel) and class_names_in(part, label) != names:
        raise ValueError(
            f"{origin} numbers its classes in another way than the train split: give all splits "
            "one ClassLabel (cast_column), or keep the names themselves as text"
        )
    labels = part.with_format(None).select_columns(label)[:][label]
    if unknown := [value for value in labels if value not in names]:
        leave_out = f", or leave it out: dataset.source.{split}=false" if split != "train" else ""
        raise ValueError(
            f"{origin}: {len(unknown):,} of {len(labels):,} images have no label, or one that is "
            f"none of the {len(names)} classes of train ({unknown[0]!r}); correct the "
            f"set{leave_out}"
        )
    return labels


def _listing(
    origin: str,
    part: Dataset,
    split: str,
    image: str,
    labels: tuple[int, ...],
    class_names: tuple[str, ...],
) -> Listing:
    from datasets import Image

    # The rows of a part are in memory-mapped files, whatever the size of the set.
    files = [stamp(file["filename"]) for file in part.cache_files]
    return Listing(
        origin=origin,
        keys=Texts(f"{split}/{key}" for key in _keys(part)),
        labels=labels,
        stamps=(" ".join(files),) * len(part),
        class_names=class_names,
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

LABELS = ("label", "labels", "class", "category", "target", "y")
"""Columns that are meant to hold the classes where several could."""


def image_column(part: Dataset, name: str | None) -> str:
    from datasets import Image

    images = [column for column, kind in part.features.items() if isinstance(kind, Image)]
    # As pandas and pyarrow write them: bytes, or a struct of them.
    encoded = [column for column, kind in part.features.items() if _is_encoded(kind)]
    fit = images + encoded if name is not None else images or encoded
    return _only(part, "image", name, fit, "holds images")


def _is_encoded(kind: Any) -> bool:
    if isinstance(kind, dict):
        return _is_encoded(kind.get("bytes"))
    return getattr(kind, "dtype", "") in ("binary", "large_binary")


def label_column(part: Dataset, name: str | None) -> str:
    from datasets import ClassLabel, Value

    features = part.features
    labels = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    values = [
        column
        for column, kind in features.items()
        if isinstance(kind, Value) and _may_be_label(kind.dtype) and column not in KEYS
    ]
    if name is not None:
        return _only(part, "label", name, labels + values, "holds classes")
    usual = [column for column in LABELS if column in values]
    lists = [column for column, kind in features.items() if type(kind).__name__ == "List"]
    if lists and not labels and not usual:
        raise ValueError(
            f"column {lists[0]} holds several labels an image, where this program needs one: "
            "dataset.source.label= names another column"
        )
    return _only(part, "label", None, labels or usual[:1] or values, "holds classes")


def _may_be_label(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "float")) or dtype in ("string", "large_string", "bool")


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
    """Values of the label column -> names of the classes, in the order of the labels.

    Raises:
        ValueError: if it holds fractions.
    """
    from datasets import ClassLabel

    feature = part.features[label]
    if isinstance(feature, ClassLabel):
        return dict(enumerate(feature.names))
    values = [value for value in part.unique(label) if value is not None and value == value]
    if broken := [one for one in values if isinstance(one, float) and not one.is_integer()]:
        raise ValueError(
            f"column {label} holds fractions ({broken[0]}), not classes; dataset.source.label= "
            "names another"
        )
    return {
        value: str(int(value)) if isinstance(value, float) else str(value)
        for value in sorted(values)
    }


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
            found: Any = load_dataset("parquet", data_files=glob.escape(str(place)))
        elif (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
            found = load_from_disk(place)
        elif place.is_dir():
            found = _load_folder(place, config)
            _check_all_loaded(place, found, config)
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w-]+", id):
            raise FileNotFoundError(f"dataset.source.id={id} is not there.\n{USAGE}")
        else:
            found = _from_hub(id, download, config, revision)
    except FileNotFoundError as error:
        if place.is_dir() and not any(place.glob("*.json")):
            raise ValueError(
                f"dataset.source.id={id} holds neither Parquet files nor images: {error}\n{USAGE}"
            ) from error
        if place.exists():
            raise FileNotFoundError(f"dataset.source.id={id} is incomplete: {error}") from error
        raise
    except Exception as error:  # of many kinds, by what is wrong and by the library's version
        raise ValueError(f"dataset.source.id={id} cannot be loaded: {error}") from error
    parts = {"train": found} if isinstance(found, Dataset) else found
    return {str(name): part for name, part in parts.items()}


def _is_folder_of_images(place: Path) -> bool:
    """Whether it holds image files and no table of them, so that their folders are their labels."""
    if not place.is_dir() or (place / "dataset_dict.json").is_file():
        return False
    if (place / "state.json").is_file():
        return False
    tables = ("*.parquet", "*.arrow", "metadata.csv", "metadata.jsonl")
    return not any(any(place.rglob(table)) for table in tables) and count_images(place) > 0


def _load_folder(place: Path, config: str | None) -> Any:
    """The set in a folder. `datasets` takes `set[1]` for a pattern and the image `train_1.jpg` for
    one of a split, so that it is given the files where either may matter.
    """
    from datasets import load_dataset

    images = count_images(place) > 0 and not any(place.rglob("*.parquet"))
    if config or not (images or glob.has_magic(str(place))):
        return load_dataset(str(place), name=config)
    files: dict[str, list[str]] = {}
    for file in sorted(files_below(place) if images else place.rglob("*.parquet")):
        if file.name.startswith("."):
            continue
        *folders, name = file.relative_to(place).parts
        words = folders if images else [*folders, name.partition("-")[0]]
        split = next((split for word in words if (split := split_of(word)[0])), "train")
        files.setdefault(split, []).append(glob.escape(str(file)))
    return load_dataset("imagefolder" if images else "parquet", data_files=files)


def _check_all_loaded(place: Path, parts: Any, config: str | None) -> None:
    """Compare what was loaded with what lies there.

    Raises:
        ValueError: if it is less: `datasets` chooses files by words in their names.
    """
    import pyarrow.parquet as pq

    loaded = sum(len(part) for part in parts.values())
    tables = list(place.rglob("*.parquet"))
    there = sum(pq.read_metadata(file).num_rows for file in tables) or count_images(place)
    readme = place / "README.md"
    chosen = config or (readme.is_file() and "configs:" in readme.read_text(errors="replace"))
    if loaded < there and not chosen:
        splits = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
        raise ValueError(
            f"of {there:,} images in {place} only {loaded:,} were loaded ({splits}): words such as "
            "train and test in the names of files are taken for splits. Put the files of each "
            "split into a folder of its name, or rename those that say nothing of a split"
        )


def _from_hub(id: str, download: bool, config: str | None, revision: str | None) -> Any:
    """The set `id` of the hub as it was fetched last; with `download`, fetched now."""
    from datasets.packaged_modules.cache.cache import Cache

    if download:
        _fetch(id, config, revision)
    cached = _cached(id, config, revision)
    if not cached:
        options = f" dataset.source.config={config}" if config else ""
        options += f" dataset.source.revision={revision}" if revision else ""
        command = f"{program()} stage=fetch aug=none dataset=hub dataset.source.id={id}{options}"
        error = MissingImages(
            f"{id}{options and f' with{options}'} is not in the cache of the Hugging Face hub.\n"
            f"Fetch it: {command}\n{USAGE}"
        )
        error.hub = id, revision
        raise error
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
