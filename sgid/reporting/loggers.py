"""What `logger=` switches on, during training and at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from sgid.reporting.results import load_result


def training_loggers(
    logger: dict[str, Any],
    folder: Path,
    *,
    config: dict[str, Any],
    choices: dict[str, Any],
    seed: int,
) -> list[Any]:
    """Lightning loggers for the live curves of a training; none with `logger=none`."""
    if not logger:
        return []
    from pytorch_lightning.loggers import WandbLogger

    from sgid.reporting.wandb_log import open_run

    folder.mkdir(parents=True, exist_ok=True)
    run = open_run(instantiate(logger), folder, config=config, choices=choices, seed=seed)
    return [WandbLogger(experiment=run)]


def log_finished(logger: dict[str, Any], folder: Path) -> None:
    """Hand a finished run's figures and images to the logger."""
    if logger:
        from sgid.reporting.wandb_log import log_run

        log_run(load_result(folder), folder, instantiate(logger))
