"""A set of the Hugging Face hub, from the hub, its cache or a folder: never by running its code."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

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
