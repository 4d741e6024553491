"""`stage=evaluate`: write `result.json`, with test metrics of the best checkpoint and metrics of
the generated images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from rich.console import Console

from sgid.data.dataset import Dataset
from sgid.evaluation.statistics import wilson
from sgid.evaluation.store_summary import examples, png
from sgid.reproducibility import CODE, commit, content, versions
from sgid.runtime.files import write_atomic
from sgid.runtime.terminal import progress
from sgid.stages.run import Run
from sgid.stages.store_evaluation import OF_ALL, StoreEvaluation
from sgid.stages.train import Training, keep_decoded
from sgid.store.tables import stored_images

EXAMPLES = 10


SIDE = 512
"""Pixels along the longer side of the pictures that are kept of nearest pairs, at most."""


def evaluate_classifier(training: Training, dataset: Dataset, folder: Path) -> dict[str, float]:
    """Test the best checkpoint; leaves `predictions.parquet` behind."""
    from sgid.training.trainer import run_test

    keep_decoded(training, "test")
    with progress("test", len(training.data.test_dataloader()), "batches") as bar:
        metrics, predictions = run_test(
            training.classifier,
            training.data,
            folder=training.folder,
            device=training.device,
            precision=training.settings.trainer.precision,
            on_batch=bar.update,
        )
    images = dataset.test
    labels, predicted = np.array(images.labels), np.array(predictions)
    right = labels == predicted
    interval = wilson(int(right.sum()), len(right))
    write_table(
        folder / "predictions.parquet",
        {"key": list(images.keys), "label": labels.tolist(), "prediction": predictions},
    )
    metrics["test/top1"] = 100 * float(right.mean())
    metrics["test/top1_low"] = interval.low
    metrics["test/top1_high"] = interval.high
    for label, name in enumerate(dataset.class_names):
        if (labels == label).any():
            metrics[f"test/top1/{name}"] = 100 * float(right[labels == label].mean())
    return metrics


def evaluate_stores(
    evaluations: Sequence[StoreEvaluation],
    dataset: Dataset,
    folder: Path,
    *,
    before: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Summaries of the stores, kept beside each; `before` are older ones, for what they have.

    Leaves behind `examples.parquet`, and in `nearest.parquet` what came nearest to test images.
    """
    summaries, shown, pairs = [], [], []
    for evaluation, older in zip_longest(evaluations, before):
        summaries.append(evaluation.summary(older))
        images = stored_images(evaluation.store, dataset.class_names)
        pairs += nearest_pairs(summaries[-1], lambda row: images[row].image, dataset)  # noqa: B023
        shown += examples(evaluation.store, dataset.train, count=EXAMPLES, kept=evaluation.kept())
    for name, rows in (("examples", shown), ("nearest", pairs)):
        if rows:
            columns = {key: [row[key] for row in rows] for key in rows[0]}
            write_table(folder / f"{name}.parquet", columns)
    return summaries


def nearest_pairs(
    summary: dict[str, Any], image: Callable[[int], Image], dataset: Dataset
) -> list[dict[str, Any]]:
    """The images that are nearest to test images, with these and their originals, as PNG."""
    train, test = dataset.train, dataset.test
    return [
        {
            "method": summary["method"],
            "distance": pair["distance"],
            "near": pair["near"],
            "same": pair["same"],
            "image": _picture(image(pair["row"])),
            "test_key": test.keys[pair["test"]],
            "test": _picture(test[pair["test"]].image),
            "original": None if (row := pair["original"]) is None else _picture(train[row].image),
            "original_key": None if row is None else train.keys[row],
        }
        for pair in summary["leakage"]["nearest"]
    ]


def _picture(image: Image) -> bytes:
    """PNG, made smaller where it is large."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    return png(image)


def write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    write_atomic(path, sink.getvalue().to_pybytes())


def evaluate(run: Run, console: Console) -> None:
    from sgid.stages.train import trained

    before = _tested(run)
    if before is not None:
        _measure_again(run, before, console)
        return
    training = run.training()
    metrics = trained(training.folder)
    if metrics is None:
        raise ValueError(f"{run.folder} has no trained checkpoint; run stage=train, or stage=all")
    with run.timed("evaluate"):
        metrics |= evaluate_classifier(training, run.dataset, run.folder)
        summaries = evaluate_stores(run.store_evaluations, run.dataset, run.folder)
    result = {
        "fingerprint": run.folder.name,
        "code": CODE,
        "choices": run.choices,
        "overrides": run.overrides,
        "seed": run.seed,
        "config": run.settings,
        "protocol": run.dataset.protocol,
        "metrics": metrics | _means(summaries),
        "generated": summaries,
        "seconds": run.seconds,
        "stores": _stores(run),
        "versions": versions(),
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(run.folder / "spec.json", _json(run.spec))
    write_atomic(run.folder / "result.json", _json(result))
    _say(result, console)


def _measure_again(run: Run, before: dict[str, Any], console: Console) -> None:
    """Measure the images of a run that was tested before, and leave all else as it was."""

    if not run.stored:
        console.print(
            "Its images are not all there any more: what was measured of them stays.",
            style="yellow",
        )
        return
    summaries = evaluate_stores(
        run.store_evaluations, run.dataset, run.folder, before=before["generated"]
    )
    if summaries == before["generated"]:
        _say(before, console)
        return
    (run.folder / "report.html").unlink(missing_ok=True)  # it is of the older measures
    metrics = {**before["metrics"], **_means(summaries)}
    result = {**before, "metrics": metrics, "generated": summaries, "stores": _stores(run)}
    write_atomic(run.folder / "result.json", _json(result))
    _say(result, console)


def _say(result: dict[str, Any], console: Console) -> None:
    top1, same = result["metrics"]["test/top1"], content(result["metrics"], result["generated"])
    console.print(f"test top-1 {top1:.2f} % · content {same}", highlight=False)


def _means(summaries: list[dict[str, Any]]) -> dict[str, float]:
    """Means of the metrics over all generated images, of any method."""
    means = {}
    for name in OF_ALL:
        if summaries and all(summary[name] is not None for summary in summaries):
            total = sum(summary[name] * summary["images"] for summary in summaries)
            means[f"generated/{name}"] = total / sum(one["images"] for one in summaries)
    return means


def _stores(run: Run) -> list[str]:
    return [str(store.folder) for one in run.augmentations for store in one.stores.values()]


def _tested(run: Run) -> dict[str, Any] | None:
    """The result of a run that was tested before, if its predictions are there."""
    result, predictions = run.folder / "result.json", run.folder / "predictions.parquet"
    if not (result.is_file() and predictions.is_file()):
        return None
    return json.loads(result.read_text(encoding="utf-8"))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
