"""Stores and results as W&B artifacts, with the lineage from the one to the other.

A store's artifact holds its spec and its manifest, which has the hash of every shard: what
identifies the images, a few kilobytes. Equal files are one version of an artifact to W&B, so that
all runs that use a store point to the same version, whichever of them came first.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sgid.reporting.results import Result

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

RESULT_FILES = (
    *("result.json", "spec.json", "curves.csv", "report.html"),
    *("predictions.parquet", "examples.parquet", "nearest.parquet"),
)


def log_store(run: wandb.Run, folder: Path, *, upload: bool) -> None:
    """Record that a run has made a store (`artifacts/generated/<fingerprint>`)."""
    if artifact := store_artifact(folder, upload=upload):
        run.log_artifact(artifact)


def use_store(run: wandb.Run, folder: Path, *, upload: bool) -> None:
    """Record that a run has used a store that was there before it."""
    if artifact := store_artifact(folder, upload=upload):
        # What `run.use_artifact` does with an artifact that is not on the server yet; but that
        # refuses to offline, and would wait for a server that may be away.
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def store_artifact(folder: Path, *, upload: bool) -> wandb.Artifact | None:
    """The artifact of a store, its shards in it only with `upload`; `None` if it is gone."""
    import wandb

    spec_file, manifest_file = folder / "spec.json", folder / "manifest.json"
    if not (spec_file.is_file() and manifest_file.is_file()):
        log.warning("%s is not there any more, so W&B is not told of it", folder)
        return None
    spec, manifest = json.loads(spec_file.read_text()), json.loads(manifest_file.read_text())
    kind = spec["kind"]
    metadata = {
        "fingerprint": folder.name,
        "path": str(folder.absolute()),
        "rows": manifest["rows"],
        "spec": spec,
    }
    name = artifact_name(spec.get("method", kind), folder.name)
    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    shards = [folder / part["file"] for part in manifest["parts"]] if upload else []
    for file in (spec_file, manifest_file, *shards):
        # Never written again, so there is no need of a copy.
        artifact.add_file(str(file.absolute()), policy="immutable", skip_cache=True)
    return artifact


def log_result(run: wandb.Run, result: Result, *, upload: bool) -> None:
    """Log what a run has left, and with `upload` its best checkpoint too."""
    import wandb

    metadata = {
        "metrics": result.metrics,
        "choices": result.choices,
        "versions": result.versions,
        "commit": result.commit,
    }
    name = artifact_name("result", result.fingerprint)
    artifact = wandb.Artifact(name, type="result", metadata=metadata)
    for file in (result.folder / name for name in RESULT_FILES):
        if file.is_file():
            artifact.add_file(str(file), skip_cache=True)
    run.log_artifact(artifact)
    checkpoint = result.folder / "checkpoints" / "best.ckpt"
    if upload and checkpoint.is_file():
        name = artifact_name("model", result.fingerprint)
        model = wandb.Artifact(name, type="model", metadata=metadata)
        model.add_file(str(checkpoint.absolute()), policy="immutable", skip_cache=True)
        run.log_artifact(model)


def artifact_name(word: str, fingerprint: str) -> str:
    """`sgid-1f3a...`, without the characters that W&B forbids in names."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', word)}-{fingerprint}"
