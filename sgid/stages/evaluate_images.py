"""`stage=evaluate evaluation.images=PATH`: metrics of any generated images, without a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.data.listing import read
from sgid.data.scan import common_scale, scan
from sgid.data.sources.folder import unsplit
from sgid.evaluation.evaluator import Evaluator
from sgid.evaluation.features import image_features, stored_embeddings, stored_thumbnails
from sgid.evaluation.filters import per_class
from sgid.evaluation.metrics import Features, ImageSetFeatures, to_original
from sgid.evaluation.store_summary import source_index
from sgid.reporting.image_metrics import print_evaluation, write_page
from sgid.reporting.results import EVALUATION, load_result
from sgid.reproducibility import fingerprint
from sgid.runtime.files import write_atomic
from sgid.stages.evaluate import nearest_pairs, write_table
from sgid.store.store import Store
from sgid.store.tables import open_generated, source_digest, stored_images

OPTION = "evaluation.images"


@dataclass(frozen=True)
class ImagesToEvaluate:
    """Images of `evaluation.images`; `store` is where they lie if SGID generated them.

    `labels` and `source_index` as in `ImageSetFeatures`; `notes` name what is not known of them.
    """

    images: ImageSet
    store: Store | None
    labels: NDArray[np.int64] | None
    source_index: NDArray[np.int64] | None
    notes: tuple[str, ...]


def evaluate_images(
    path: Path,
    evaluator: Evaluator,
    console: Console,
    *,
    seed: int,
    max_bad: float,
    full_scale: float | None,
    results: Path,
) -> Path:
    """Compute all metrics of the images at `path`; the folder in `results` with JSON and page.

    `max_bad` is the share of unreadable images that is left out without an error, and `full_scale`
    the level that is white in images of more than 8 bits.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if there are no images, or they are of classes that the dataset has not.
    """
    path, dataset = path.expanduser(), evaluator.dataset
    given = _given(path, evaluator, max_bad, full_scale)
    spec = {
        "kind": "evaluation",
        "images": given.images.digest(),
        "linked": given.source_index is not None,
        "evaluator": evaluator.name,
    }
    folder = results / fingerprint([spec, str(path)])
    if not (folder / EVALUATION).is_file():
        summary = {
            "fingerprint": folder.name,
            "method": given.store.spec["method"] if given.store else path.resolve().name,
            "path": str(path),
            "dataset": dataset.name,
            "seed": seed,
            "protocol": dataset.protocol,
            "notes": list(given.notes),
            **_summary(given, evaluator),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if pairs := nearest_pairs(summary, lambda row: given.images[row].image, dataset):
            columns = {key: [row[key] for row in pairs] for key in pairs[0]}
            write_table(folder / "nearest.parquet", columns)
        content = json.dumps(summary, indent=2, ensure_ascii=False)
        write_atomic(folder / EVALUATION, content.encode())
    page = write_page(folder)
    print_evaluation(folder, console)
    console.print(f"report: {page}", highlight=False, markup=False)
    return folder


def _summary(given: ImagesToEvaluate, evaluator: Evaluator) -> dict[str, Any]:
    images, artifacts, models = given.images, evaluator.artifacts, evaluator.models
    if given.store is None:
        features = image_features(images, models, artifacts)
    else:  # its embeddings lie in its folder
        name = fingerprint(models.identity("scorer"))
        vectors = stored_embeddings(given.store, lambda: models.scorer, name=name)
        features = Features(vectors, stored_thumbnails(given.store))
    generated = ImageSetFeatures(
        features.vectors,
        features.pixels,
        lambda row: images[row].image,
        given.labels,
        given.source_index,
    )
    cosines = {}
    if generated.source_index is not None and generated.labels is not None:
        names = evaluator.dataset.class_names
        cosines = per_class(to_original(generated, evaluator.real), generated.labels, names)
    return {**evaluator.summary(generated), "cosine_per_class": cosines}


def _given(
    path: Path, evaluator: Evaluator, max_bad: float, full_scale: float | None
) -> ImagesToEvaluate:
    if not path.is_dir():
        raise FileNotFoundError(
            f"{OPTION}={path} is not a folder. It takes artifacts/generated/<fingerprint>, or a "
            "folder of images: DIR/<class>/*.jpg, or DIR/*.jpg where they have no labels"
        )
    if (path / "manifest.json").is_file():
        return open_store(path, evaluator.dataset, option=OPTION)
    if reason := _no_images(path):
        raise ValueError(f"{OPTION}={path} {reason}")
    listing, labelled = unsplit(path, evaluator.dataset.class_names, option=OPTION)
    images, findings = scan(listing, max_bad=max_bad, cache=evaluator.artifacts / "scans")
    images = replace(images, scale=common_scale(findings.values(), full_scale))
    bad = [key for key, finding in findings.items() if finding.problem]
    notes = [f"{len(bad):,} unreadable images are left out"] if bad else []
    notes.append("They are not linked to originals: what needs these is not measured.")
    if not labelled:
        notes.append("They lie in no class folders: what needs labels is not measured.")
    labels = np.asarray(images.labels, np.int64) if labelled else None
    return ImagesToEvaluate(images, None, labels, None, tuple(notes))


def _no_images(path: Path) -> str | None:
    """The kind of a folder of this program without images to evaluate, and the one to give."""
    if (path / "result.json").is_file():
        stores = load_result(path).generated
        if not stores:
            return "is the result of a run that generated no images"
        take = " or ".join(one.path for one in stores)
        return f"is the result of a run: its images are in {take}"
    if (path / EVALUATION).is_file():
        return "holds the metrics of an evaluation: give the images themselves"
    if (path / "spec.json").is_file():
        return "is a store that is not finished: run again what makes it, then give it"
    if stores := sorted(one.parent.name for one in path.glob("*/spec.json") if _is_generated(one)):
        listed = f"{', '.join(stores[:5])}{' ...' if len(stores) > 5 else ''}"
        return f"holds stores: give one of them ({listed}), or several with -m"
    return None


def _is_generated(spec: Path) -> bool:
    """Whether a file, which may be anything, is the `spec.json` of a store of generated images."""
    try:
        content = json.loads(read(spec))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == "generated"


def open_store(path: Path, dataset: Dataset, *, option: str) -> ImagesToEvaluate:
    """The images of a complete store of generated images, given by `option`.

    Raises:
        ValueError: if it is another kind of store, of another version, or of other classes.
    """
    store = open_generated(path, option=option)
    names = store.read(["class_name"])["class_name"].to_pylist()
    labels = _labels(names, path, dataset, option)
    linked, notes = None, ()
    images = source_digest(store)
    if images == dataset.train.digest():
        linked = source_index(store, dataset.train)
    elif images is None:
        notes = (
            "The captions that they were made of are not there: nothing "
            "says what they were made of, and what needs their originals is not measured.",
        )
    else:
        notes = (
            f"They were not made of this dataset's {len(dataset.train):,} training images (another "
            "seed or dataset.shots?): what needs their originals is not measured.",
        )
    return ImagesToEvaluate(stored_images(store, dataset.class_names), store, labels, linked, notes)


def _labels(names: Sequence[str], path: Path, dataset: Dataset, option: str) -> NDArray[np.int64]:
    label = {name: number for number, name in enumerate(dataset.class_names)}
    if unknown := sorted(set(names) - set(label)):
        raise ValueError(
            f"{option}={path} holds images of {', '.join(unknown[:5])}, which are no classes of "
            f"{dataset.name} ({', '.join(dataset.class_names[:5])} ...): change dataset"
        )
    return np.array([label[name] for name in names], np.int64)
