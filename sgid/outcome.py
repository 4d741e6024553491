"""What a run is found to be worth: `result.json`, from its tested classifier and its images."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from sgid.job import Run
from sgid.reproducibility import commit, content, versions
from sgid.runtime.files import write_atomic
from sgid.stages.judge import OF_ALL


def evaluate(run: Run, console: Console) -> None:
    from sgid.stages.evaluate import evaluate_classifier, evaluate_stores
    from sgid.stages.train import trained

    before = _tested(run)
    if before is not None:
        _measure_again(run, before, console)
        return
    training = run.training()
    metrics = trained(training)
    if metrics is None:
        raise ValueError(f"{run.folder} has no trained checkpoint; run stage=train, or stage=all")
    with run.timed("evaluate"):
        metrics |= evaluate_classifier(training, run.config, run.dataset, run.folder)
        summaries = evaluate_stores(
            run.augmentations, run.config, run.dataset, run.models, run.folder
        )
    result = {
        "fingerprint": run.folder.name,
        "choices": run.choices,
        "overrides": run.overrides,
        "seed": run.config.seed,
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
    from sgid.stages.evaluate import evaluate_stores

    if not run.stored:
        console.print(
            "Its images are not all there any more: what was measured of them stays.",
            style="yellow",
        )
        return
    summaries = evaluate_stores(
        run.augmentations, run.config, run.dataset, run.models, run.folder,
        before=before["generated"],
    )  # fmt: skip
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
    """What is measured of all generated images together, of any method."""
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
