"""What `logger=` switches on: over the stages of a run, during training, and at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.utils import instantiate


def unready(logger: dict[str, Any]) -> str | None:
    """Why the logger cannot be used, for people, or `None`. It asks nothing over the network."""
    if not logger:
        return None
    if find_spec("wandb") is None:
        return 'logger=wandb needs wandb: pip install "sgid[tracking]", or take logger=none'
    from sgid.reporting.wandb_log import WAYS_ON, is_offline, nobody

    if is_offline() or (missing := nobody()) is None:
        return None
    return f"logger=wandb: {missing}\n{WAYS_ON}"


@contextmanager
def tracking(
    logger: dict[str, Any],
    folder: Path,
    *,
    config: dict[str, Any],
    choices: dict[str, Any],
    seed: int,
) -> Iterator[None]:
    """Have the logger's run open over the stages of a run; an error marks it as failed.

    It is opened before any work, so that a server that cannot be reached costs none.

    Raises:
        ConnectionError: if it cannot be opened.
    """
    if not logger:
        yield
        return
    from sgid.reporting.wandb_log import close_run, open_run

    open_run(instantiate(logger), folder, config=config, choices=choices, seed=seed)
    failed = True
    try:
        yield
        failed = False
    finally:
        close_run(folder, failed=failed)


def log_stores(logger: dict[str, Any], stores: Sequence[Path]) -> None:
    """Tell the logger's open run which stores it has made."""
    if not logger or not stores:
        return
    import wandb

    from sgid.reporting.wandb_log import log_made

    assert wandb.run is not None, "within tracking()"
    for store in stores:
        log_made(wandb.run, store, instantiate(logger))


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

    run = open_run(instantiate(logger), folder, config=config, choices=choices, seed=seed)
    return [WandbLogger(experiment=run)]


def log_finished(logger: dict[str, Any], folder: Path) -> None:
    """Hand a finished run's figures and images to the logger."""
    if logger:
        from sgid.reporting.wandb_log import log_run

        log_run(folder, instantiate(logger))


def log_again(logger: dict[str, Any], folder: Path) -> None:
    """Hand over a run that was finished before, if a W&B sweep waits for its figure."""
    if "WANDB_SWEEP_ID" in os.environ:
        log_finished(logger, folder)
