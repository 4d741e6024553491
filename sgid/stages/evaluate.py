"""`stage=evaluate`: the test set, once, and what the generated images are like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sgid.config import Config
from sgid.data.datasets import Dataset
from sgid.evaluation.statistics import wilson
from sgid.evaluation.stores import examples
from sgid.models import Models
from sgid.progress import progress
from sgid.stages.augment import Augmentation
from sgid.stages.judge import Judgement
from sgid.stages.train import Training, keep_decoded
from sgid.store import write_atomic

EXAMPLES = 10


def evaluate_classifier(
    training: Training, config: Config, dataset: Dataset, folder: Path
) -> dict[str, float]:
    """Test the best checkpoint; leaves `predictions.parquet` behind."""
    from sgid.device import pick_device
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
    _write_table(
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
    chosen: list[Augmentation], config: Config, dataset: Dataset, models: Models, folder: Path
) -> list[dict[str, Any]]:
    """Summaries of the stores, kept beside each; leaves `examples.parquet` behind."""
    summaries, shown = [], []
    for augmentation in chosen:
        judgement = Judgement(augmentation.generated, config, dataset, models)
        summaries.append(judgement.summary())
        shown += examples(
            augmentation.generated, dataset.train, count=EXAMPLES, kept=judgement.kept()
        )
    if shown:
        columns = {name: [row[name] for row in shown] for name in shown[0]}
        _write_table(folder / "examples.parquet", columns)
    return summaries


def _write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    write_atomic(path, sink.getvalue().to_pybytes())
