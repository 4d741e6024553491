"""`stage=evaluate`: the test set, once, and what the generated images are like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from sgid.config.schema import Config
from sgid.data.dataset import Dataset
from sgid.evaluation.statistics import wilson
from sgid.evaluation.store_summary import examples, png
from sgid.generation.stored import stored_images
from sgid.models.loader import Models
from sgid.runtime.files import write_atomic
from sgid.runtime.terminal import progress
from sgid.stages.augment import Augmentation
from sgid.stages.judge import Judgement
from sgid.stages.train import Training, keep_decoded

EXAMPLES = 10
SIDE = 512
"""Pixels along the longer side of the pictures that are kept of nearest pairs, at most."""


def evaluate_classifier(
    training: Training, config: Config, dataset: Dataset, folder: Path
) -> dict[str, float]:
    """Test the best checkpoint; leaves `predictions.parquet` behind."""
    from sgid.runtime.device import pick_device
    from sgid.training.fit import test

    keep_decoded(training, config, "test")
    with progress("test", len(training.data.test_dataloader()), "batches") as bar:
        metrics, predictions = test(
            training.classifier,
            training.data,
            folder=training.folder,
            device=pick_device(config.trainer.device),
            precision=config.trainer.precision,
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
    chosen: list[Augmentation],
    config: Config,
    dataset: Dataset,
    models: Models,
    folder: Path,
    *,
    before: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Summaries of the stores, kept beside each; `before` are older ones, for what they have.

    Leaves behind `examples.parquet`, and in `nearest.parquet` what came nearest to test images.
    """
    summaries, shown, pairs = [], [], []
    for augmentation, older in zip_longest(chosen, before):
        judgement = Judgement(augmentation.generated, config, dataset, models)
        summaries.append(judgement.summary(older))
        images = stored_images(augmentation.generated, dataset.class_names)
        pairs += nearest_pairs(summaries[-1], lambda row: images[row].image, dataset)  # noqa: B023
        shown += examples(
            augmentation.generated, dataset.train, count=EXAMPLES, kept=judgement.kept()
        )
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
