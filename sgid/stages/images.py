"""`stage=evaluate evaluation.images=PATH`: any generated images, measured without any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from sgid.config import Config
from sgid.data.datasets import Dataset
from sgid.data.images import ImageSet
from sgid.data.scan import scan
from sgid.data.sources.unsplit import unsplit
from sgid.evaluation.embeddings import kept_thumbnails, stored_embeddings
from sgid.evaluation.measures import Made, Part, Real, to_original
from sgid.evaluation.stores import origin
from sgid.fingerprint import fingerprint
from sgid.generation.stored import stored_images
from sgid.models import Models
from sgid.reporting.evaluation import print_evaluation, write_page
from sgid.reporting.results import EVALUATION
from sgid.stages.evaluate import nearest_pairs, write_table
from sgid.stages.measured import Measuring, measuring
from sgid.stages.real import FOLDER, part
from sgid.store import Store, write_atomic

OPTION = "evaluation.images"


@dataclass(frozen=True)
class Given:
    """The images that are to be measured.

    `store` is where they lie if SGID made them. `labels` and `origin` as in `Made`; `notes` say
    what is not known of them, and why.
    """

    images: ImageSet
    store: Store | None
    labels: NDArray[np.int64] | None
    origin: NDArray[np.int64] | None
    notes: tuple[str, ...]


def evaluate_images(config: Config, dataset: Dataset, models: Models, console: Console) -> Path:
    """Measure the images at `evaluation.images`; the folder with their JSON and their page.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if there are no images, or they are of classes that the dataset has not.
    """
    assert config.evaluation.images is not None
    path = Path(config.evaluation.images).expanduser()
    given = _given(path, config, dataset)
    against = measuring(config, dataset, models)
    spec = {"kind": "evaluation", "images": given.images.digest(), "mark": against.mark}
    folder = Path(config.paths.results) / fingerprint([spec, str(path)])
    if not (folder / EVALUATION).is_file():
        told = _measured(given, against, models)
        told = {
            "fingerprint": folder.name,
            "method": given.store.spec["method"] if given.store else path.resolve().name,
            "path": str(path),
            "dataset": dataset.name,
            "protocol": dataset.protocol,
            "notes": list(given.notes),
            **told,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if pairs := nearest_pairs(told, lambda row: given.images[row].image, dataset):
            columns = {key: [row[key] for row in pairs] for key in pairs[0]}
            write_table(folder / "nearest.parquet", columns)
        write_atomic(folder / EVALUATION, json.dumps(told, indent=2, ensure_ascii=False).encode())
    page = write_page(folder)
    print_evaluation(folder, console)
    console.print(f"report: {page}", highlight=False)
    return folder


def _measured(given: Given, against: Measuring, models: Models) -> dict[str, Any]:
    images, artifacts = given.images, against.artifacts
    if given.store is None:
        found = part(images, models, artifacts)
    else:  # its embeddings lie beside it
        name = fingerprint(models.identity("scorer"))
        vectors = stored_embeddings(given.store, lambda: models.scorer, name=name)
        found = Part(vectors, kept_thumbnails(images, folder=artifacts / FOLDER))
    made = Made(
        found.vectors, found.pixels, lambda row: images[row].image, given.labels, given.origin
    )
    real = against.real()
    per_class = _cosine_per_class(made, real, against.dataset.class_names)
    return {**against.summary(made, real), "cosine_per_class": per_class}


def _given(path: Path, config: Config, dataset: Dataset) -> Given:
    if not path.is_dir():
        raise FileNotFoundError(
            f"{OPTION}={path} is not a folder. It takes artifacts/generated/<fingerprint>, or a "
            "folder of images: DIR/<class>/*.jpg, or DIR/*.jpg where they have no labels"
        )
    if (path / "manifest.json").is_file():
        return _stored(path, config, dataset)
    listing, labelled = unsplit(path, dataset.class_names, option=OPTION)
    images, bad = scan(
        listing, max_bad=config.dataset.max_bad, cache=Path(config.paths.artifacts) / "scans"
    )
    notes = [f"{len(bad):,} unreadable images are left out"] if bad else []
    notes.append("They are not linked to originals: what needs these is not measured.")
    if not labelled:
        notes.append("They lie in no class folders: what needs labels is not measured.")
    labels = np.asarray(images.labels, np.int64) if labelled else None
    return Given(images, None, labels, None, tuple(notes))


def _stored(path: Path, config: Config, dataset: Dataset) -> Given:
    import pyarrow as pa

    spec = json.loads((path / "spec.json").read_text(encoding="utf-8"))
    if spec.get("kind") != "generated":
        raise ValueError(f"{OPTION}={path} is a store of {spec.get('kind')}: take one of generated")
    if fingerprint(spec) != path.resolve().name:
        raise ValueError(f"{OPTION}={path}: a store's folder is to be named {fingerprint(spec)}")
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    where = path.resolve().parent
    store = Store(where, spec, pa.schema([]), manifest["rows"], manifest["shard_size"])
    names = store.read(["class_name"])["class_name"].to_pylist()
    labels = _labels(names, path, dataset)
    linked, notes = None, ()
    if _is_of(spec["source"], where.parent, dataset):
        linked = origin(store, dataset.train)
    else:
        notes = (
            f"They were not made of this dataset's {len(dataset.train):,} training images (another "
            "seed, dataset.shots, or models?): what needs their originals is not measured.",
        )
    return Given(stored_images(store, dataset.class_names), store, labels, linked, notes)


def _labels(names: Sequence[str], path: Path, dataset: Dataset) -> NDArray[np.int64]:
    label = {name: number for number, name in enumerate(dataset.class_names)}
    if unknown := sorted(set(names) - set(label)):
        raise ValueError(
            f"{OPTION}={path} holds images of {', '.join(unknown[:5])}, which are no classes of "
            f"{dataset.name} ({', '.join(dataset.class_names[:5])} ...): change dataset"
        )
    return np.array([label[name] for name in names], np.int64)


def _is_of(source: str, artifacts: Path, dataset: Dataset) -> bool:
    """Whether a store's source, images or descriptions of them, is the training part."""
    described = artifacts / "described" / source / "spec.json"
    if described.is_file():
        source = json.loads(described.read_text(encoding="utf-8"))["images"]
    return source == dataset.train.digest()


def _cosine_per_class(made: Made, real: Real, names: Sequence[str]) -> dict[str, float]:
    if made.origin is None or made.labels is None:
        return {}
    cosines = to_original(made, real)
    return {
        name: float(cosines[made.labels == label].mean())
        for label, name in enumerate(names)
        if (made.labels == label).any()
    }
