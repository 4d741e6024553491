"""Finished runs read back from disk: the source of all tables and figures."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgid.reproducibility import CODE

EVALUATION = "evaluation.json"
"""The file that `stage=evaluate evaluation.images=...` writes in place of a result."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filtered:
    """Counts of a method's images that a filter keeps for training, and drops."""

    name: str
    kept: int
    dropped: int
    dropped_per_class: dict[str, int]


@dataclass(frozen=True)
class Generation:
    """The images that one method generated for a run, summed up.

    `histograms` maps "similarity" and "guidance_scale" to `edges` (K + 1) and `counts` (K).
    `measures` are the metrics by name (`sgid.reporting.image_metrics.SAID`) of all images, those
    that `filter` dropped included (`None` is no filter), `originals` the same of the originals.
    `counts` are of the images that these rest on; `leakage` defines near-copies; `classifier` is
    the run whose classifier predicted labels.
    """

    method: str
    path: str
    images: int
    histograms: dict[str, dict[str, list[float]]]
    cosine_per_class: dict[str, float]
    filter: Filtered | None
    measures: dict[str, float | None] = field(default_factory=dict)
    originals: dict[str, float | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    leakage: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] | None = None


@dataclass(frozen=True)
class Result:
    """One finished run: `result.json`, with the folder that it lies in."""

    folder: Path
    fingerprint: str
    choices: dict[str, Any]
    seed: int
    config: dict[str, Any]
    protocol: dict[str, Any]
    metrics: dict[str, float]
    generated: tuple[Generation, ...]
    overrides: tuple[str, ...]
    seconds: dict[str, float]
    stores: tuple[str, ...]
    versions: dict[str, str]
    commit: str | None
    finished: str
    code: int | None = CODE

    @property
    def aug(self) -> tuple[str, ...]:
        """The names of the augmentations; at least one."""
        return tuple(self.choices["aug"])

    @property
    def class_accuracy(self) -> dict[str, float]:
        """Test top-1 of each class in percent, in the order of the classes."""
        prefix = "test/top1/"
        return {
            name.removeprefix(prefix): value
            for name, value in self.metrics.items()
            if name.startswith(prefix)
        }


def load_result(folder: Path) -> Result:
    """Read one run's folder.

    Raises:
        ValueError: if it has no `result.json`, or a broken or incomplete one.
    """
    path = Path(folder) / "result.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Result(
            folder=Path(folder),
            fingerprint=raw["fingerprint"],
            choices={**raw["choices"], "aug": _names(raw["choices"]["aug"])},
            seed=int(raw["seed"]),
            config=dict(raw["config"]),
            protocol=dict(raw.get("protocol", {})),
            metrics={
                "test/top1": float(raw["metrics"]["test/top1"]),
                **{name: value for name, value in raw["metrics"].items() if value is not None},
            },
            generated=tuple(_generation(one) for one in raw.get("generated", ())),
            overrides=tuple(raw.get("overrides", ())),
            seconds=dict(raw.get("seconds", {})),
            stores=tuple(map(str, raw.get("stores", ()))),
            versions=dict(raw.get("versions", {})),
            commit=raw.get("commit"),
            finished=str(raw.get("finished", "")),
            code=raw.get("code"),
        )
    except FileNotFoundError:
        raise ValueError(f"{folder} has no result.json: the run has not finished") from None
    except KeyError as error:
        raise ValueError(f"{path} is incomplete: {error} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def load_results(folder: Path) -> list[Result]:
    """Every finished run of this version below `folder` (`results/`), oldest first.

    Broken results, and the number of those of earlier versions, are logged as warnings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: set paths.results to where runs are")
    results = load_each(path for path in sorted(folder.iterdir()) if _finished(path))
    current = [result for result in results if result.code == CODE]
    if earlier := len(results) - len(current):
        log.warning(
            "left out: %d run%s of an earlier version in %s. To compare them run them again; to be "
            "rid of this line delete their folders",
            *(earlier, "s" * (earlier > 1), folder),
        )
    return sorted(current, key=lambda result: (result.finished, result.fingerprint))


def load_each(folders: Iterable[Path]) -> list[Result]:
    """The finished runs among `folders`, in that order; the others are named in a warning."""
    results = []
    for folder in folders:
        try:
            results.append(load_result(folder))
        except ValueError as error:
            log.warning("left out: %s", error)
    return results


def _finished(folder: Path) -> bool:
    """Whether it is the folder of a run that has a result, readable or not."""
    return (folder / "result.json").is_file()


def _names(aug: str | list[str]) -> list[str]:
    names = [aug] if isinstance(aug, str) else list(aug)
    if not names:
        raise ValueError("choices.aug names no augmentation")
    return names


def _generation(raw: dict[str, Any]) -> Generation:
    return Generation(
        method=raw["method"],
        path=str(raw["path"]),
        images=int(raw["images"]),
        histograms=dict(raw.get("histograms") or {}),
        cosine_per_class=dict(raw.get("cosine_per_class") or {}),
        filter=_filtered(raw.get("filter")),
        measures=dict(raw.get("measures") or {}),
        originals=dict(raw.get("originals") or {}),
        counts=dict(raw.get("counts") or {}),
        leakage=dict(raw.get("leakage") or {}),
        classifier=raw.get("classifier"),
    )


def _filtered(raw: dict[str, Any] | None) -> Filtered | None:
    if raw is None:
        return None
    return Filtered(
        name=raw["name"],
        kept=int(raw["kept"]),
        dropped=int(raw["dropped"]),
        dropped_per_class=dict(raw.get("dropped_per_class") or {}),
    )


@dataclass(frozen=True)
class Example:
    """An original with the images that a method generated from it, all encoded (PNG).

    What the method does not have (a similarity, without captions) is NaN or `None`. `kept` says of
    each image whether the filter let it be trained on.
    """

    method: str
    key: str
    class_name: str
    caption: str
    similarity: float | None
    prompt: str
    guidance_scale: float | None
    strength: float | None
    original: bytes
    images: tuple[bytes, ...]
    kept: tuple[bool, ...]


@dataclass(frozen=True)
class Pair:
    """A generated image and the test image that it is nearest to, with its original if it has one.

    All of them encoded (PNG). `distance` is that of `sgid.evaluation.leakage`; `near` says whether
    it makes a near-copy, `same` whether the pixels are the same.
    """

    method: str
    distance: float
    near: bool
    same: bool
    image: bytes
    test_key: str
    test: bytes
    original: bytes | None
    original_key: str | None


@dataclass(frozen=True)
class Curve:
    """One metric over the optimizer steps of a training."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_examples(folder: Path) -> list[Example]:
    """The example originals of a run with their generated images; none if it generated none."""
    path = folder / "examples.parquet"
    if not path.is_file():
        return []
    import pyarrow.parquet as pq

    return [
        Example(**{**row, "images": tuple(row["images"]), "kept": tuple(row["kept"])})
        for row in pq.read_table(path, columns=list(Example.__dataclass_fields__)).to_pylist()
    ]


def read_pairs(folder: Path) -> list[Pair]:
    """The generated images nearest to test images, nearest first; none where that was not kept."""
    path = folder / "nearest.parquet"
    if not path.is_file():
        return []
    import pyarrow.parquet as pq

    return [Pair(**row) for row in pq.read_table(path).to_pylist()]


def read_correct(folder: Path) -> dict[str, bool]:
    """Whether each test image was classified rightly, by key; empty if that was not kept."""
    path = folder / "predictions.parquet"
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    columns = pq.read_table(path, columns=["key", "label", "prediction"]).to_pydict()
    rows = zip(columns["key"], columns["label"], columns["prediction"], strict=True)
    return {key: label == prediction for key, label, prediction in rows}


def read_curves(folder: Path) -> dict[str, Curve]:
    """The metrics that were logged during training, each where it was logged; may be empty."""
    path = folder / "curves.csv"
    if not path.is_file():
        return {}
    points: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    points.setdefault(name, []).append((int(float(row["step"])), float(value)))
    return {
        name: Curve(*(tuple(column) for column in zip(*pairs, strict=True)))
        for name, pairs in points.items()
    }
