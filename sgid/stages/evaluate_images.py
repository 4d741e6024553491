"""`stage=evaluate evaluation.images=PATH`: any generated images, measured without any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from rich.console import Console

from sgid.config.schema import Config
from sgid.config.targets import refused
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
from sgid.methods.requests import Method
from sgid.models.loader import Models
from sgid.reporting.image_metrics import print_evaluation, write_page
from sgid.reporting.results import EVALUATION, load_result
from sgid.reproducibility import fingerprint
from sgid.runtime.files import write_atomic
from sgid.stages.evaluate import nearest_pairs, write_table
from sgid.stages.store_evaluation import make_evaluator
from sgid.store.store import Store
from sgid.store.tables import stored_images

OPTION = "evaluation.images"


@dataclass(frozen=True)
class ImagesToEvaluate:
    """The images that are to be measured.

    `store` is where they lie if SGID made them. `labels` and `source_index` as in
    `ImageSetFeatures`; `notes` say what is not known of them, and why.
    """

    images: ImageSet
    store: Store | None
    labels: NDArray[np.int64] | None
    source_index: NDArray[np.int64] | None
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
    against = make_evaluator(config, dataset, models)
    spec = {
        "kind": "evaluation",
        "images": given.images.digest(),
        "linked": given.source_index is not None,
        "evaluator": against.name,
    }
    folder = Path(config.paths.results) / fingerprint([spec, str(path)])
    if not (folder / EVALUATION).is_file():
        told = _measured(given, against, models)
        told = {
            "fingerprint": folder.name,
            "method": given.store.spec["method"] if given.store else path.resolve().name,
            "path": str(path),
            "dataset": dataset.name,
            "seed": config.seed,
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
    console.print(f"report: {page}", highlight=False, markup=False)
    return folder


def _measured(given: ImagesToEvaluate, against: Evaluator, models: Models) -> dict[str, Any]:
    images, artifacts = given.images, against.artifacts
    if given.store is None:
        found = image_features(images, models, artifacts)
    else:  # its embeddings lie beside it
        name = fingerprint(models.identity("scorer"))
        vectors = stored_embeddings(given.store, lambda: models.scorer, name=name)
        found = Features(vectors, stored_thumbnails(given.store))
    made = ImageSetFeatures(
        found.vectors, found.pixels, lambda row: images[row].image, given.labels, given.source_index
    )
    cosines = {}
    if made.source_index is not None and made.labels is not None:
        names = against.dataset.class_names
        cosines = per_class(to_original(made, against.real), made.labels, names)
    return {**against.summary(made), "cosine_per_class": cosines}


def _given(path: Path, config: Config, dataset: Dataset) -> ImagesToEvaluate:
    if not path.is_dir():
        raise FileNotFoundError(
            f"{OPTION}={path} is not a folder. It takes artifacts/generated/<fingerprint>, or a "
            "folder of images: DIR/<class>/*.jpg, or DIR/*.jpg where they have no labels"
        )
    if (path / "manifest.json").is_file():
        return _stored(path, config, dataset)
    if told := _no_images(path):
        raise ValueError(f"{OPTION}={path} {told}")
    listing, labelled = unsplit(path, dataset.class_names, option=OPTION)
    images, findings = scan(
        listing, max_bad=config.dataset.max_bad, cache=Path(config.paths.artifacts) / "scans"
    )
    images = replace(images, scale=common_scale(findings.values(), config.dataset.full_scale))
    bad = [key for key, finding in findings.items() if finding.problem]
    notes = [f"{len(bad):,} unreadable images are left out"] if bad else []
    notes.append("They are not linked to originals: what needs these is not measured.")
    if not labelled:
        notes.append("They lie in no class folders: what needs labels is not measured.")
    labels = np.asarray(images.labels, np.int64) if labelled else None
    return ImagesToEvaluate(images, None, labels, None, tuple(notes))


def _no_images(path: Path) -> str | None:
    """What a folder of this program is that holds no images to measure, and what to give."""
    if (path / "result.json").is_file():
        stores = load_result(path).generated
        if not stores:
            return "is the result of a run that generated no images"
        take = " or ".join(one.path for one in stores)
        return f"is the result of a run: its images are in {take}"
    if (path / EVALUATION).is_file():
        return "is what an evaluation left: give the images that it was made of"
    if (path / "spec.json").is_file():
        return "is a store that is not finished: run again what makes it, then give it"
    if stores := sorted(one.parent.name for one in path.glob("*/spec.json") if _is_generated(one)):
        listed = f"{', '.join(stores[:5])}{' ...' if len(stores) > 5 else ''}"
        return f"holds stores: give one of them ({listed}), or several with -m"
    return None


def _is_generated(spec: Path) -> bool:
    """Whether a file, which may be anything, is the `spec.json` of a store of generated images."""
    try:
        said = json.loads(read(spec))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("kind") == "generated"


def _captioned(spec: dict[str, Any], path: Path, allowed: Sequence[str]) -> bool:
    """Whether a store was made from captions, hence of a store of descriptions."""
    if wrong := refused(spec["guidance"], "guidance", allowed):  # others may have made the store
        raise ValueError("\n".join(f"{path / 'spec.json'}: {line}" for line in wrong))
    fields = ("method", "prompt", "from_image", "strength", "caption")
    own = {name: spec[name] for name in fields}
    return Method(**own, guidance=instantiate(spec["guidance"])).needs_captions


def _stored(path: Path, config: Config, dataset: Dataset) -> ImagesToEvaluate:
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
    source = _source(spec["source"], where.parent)
    if source == dataset.train.digest():
        linked = source_index(store, dataset.train)
    elif source == spec["source"] and _captioned(spec, path, config.allow_targets):
        notes = (
            f"Their descriptions, {where.parent / 'described' / source}, are not there: nothing "
            "says what they were made of, and what needs their originals is not measured.",
        )
    else:
        notes = (
            f"They were not made of this dataset's {len(dataset.train):,} training images (another "
            "seed or dataset.shots?): what needs their originals is not measured.",
        )
    return ImagesToEvaluate(stored_images(store, dataset.class_names), store, labels, linked, notes)


def _labels(names: Sequence[str], path: Path, dataset: Dataset) -> NDArray[np.int64]:
    label = {name: number for number, name in enumerate(dataset.class_names)}
    if unknown := sorted(set(names) - set(label)):
        raise ValueError(
            f"{OPTION}={path} holds images of {', '.join(unknown[:5])}, which are no classes of "
            f"{dataset.name} ({', '.join(dataset.class_names[:5])} ...): change dataset"
        )
    return np.array([label[name] for name in names], np.int64)


def _source(source: str, artifacts: Path) -> str:
    """The digest of the images that a store was made of; its source as it is, if none says."""
    described = artifacts / "described" / source / "spec.json"
    if described.is_file():
        return json.loads(described.read_text(encoding="utf-8"))["images"]
    return source
