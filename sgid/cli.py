"""The command line: Hydra's, with errors for people and a help that lists every option."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.compose import CONF

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sgid.models import Loaded


class Failed(Exception):
    """A job of a sweep that has already said why it failed."""


def main() -> int:
    """Run Hydra on `sys.argv`; the exit code."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        from sgid.help import help_text, own_folders

        print(help_text(CONF, *own_folders(sys.argv[1:])))
        return 0
    # Hydra then raises instead of printing a traceback of its own; what people see is below.
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra's parser wants its flags before the options or after them, not among them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: "=" in word and not word.startswith("-"))
    import hydra

    from sgid.config import register
    from sgid.models import Loaded

    register()
    loaded = Loaded()

    def job(config: DictConfig) -> None:
        _job(config, loaded)

    # Importing libraries makes a million objects, none of them garbage, which the collector would
    # go through again and again.
    gc.set_threshold(20_000, 10, 10)
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except Failed:
        return 1
    except Exception as error:
        if debug:
            raise
        text = message(error)
        if text is None:
            raise
        print(f"\n{text}", file=sys.stderr)
        return 1
    return 0


def _job(config: DictConfig, loaded: Loaded) -> None:
    """One run of a sweep, or the only one; an error is told at once, and kept in its folder."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    try:
        _run(config, loaded)
    except Exception as error:
        output = Path(hydra_config.runtime.output_dir)
        (output / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        text = message(error)
        if text is None:
            raise
        print(f"\n{text}", file=sys.stderr)
        if not _raised_here(error):
            print(f"Where it arose: {output / 'error.txt'}", file=sys.stderr)
        # Hydra lets the other jobs run and then raises the first error; only jobs that raise count
        # as failed with every launcher. An only job needs none of that.
        if hydra_config.mode is RunMode.MULTIRUN:
            raise Failed(text) from error
        raise SystemExit(1) from error


def _run(config: DictConfig, loaded: Loaded) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from rich.console import Console

    from sgid.config import Stage

    # Nothing is fetched behind the user's back: `stage=data` fetches images, and for weights
    # `sgid.weights` says what to fetch.
    if config.stage is Stage.data:
        config.dataset.download = True
    else:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Matplotlib's list of fonts and W&B's own logs would go to the home directory.
    artifacts = Path(config.paths.artifacts).absolute()
    os.environ.setdefault("MPLCONFIGDIR", str(artifacts / "fonts"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(artifacts / "wandb"))
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # Some of these are read when the libraries are imported.
    from sgid.pipeline import run
    from sgid.reporting.sweep import POINTER

    hydra_config = HydraConfig.get()
    typed: Any = OmegaConf.to_object(config)
    choices: dict[str, Any] = {
        group: hydra_config.runtime.choices[group]
        for group in ("dataset", "backbone", "models", "guidance", "filter")
    }
    choices["aug"] = list(typed.aug)
    overrides = list(hydra_config.overrides.task)
    folder = run(typed, choices, overrides, Console(soft_wrap=True), loaded=loaded)
    output = Path(hydra_config.runtime.output_dir)
    (output / POINTER).write_text(str(folder.resolve()) if folder else "")


def message(error: BaseException) -> str | None:
    """What to tell a person, or `None` for what only a developer can mend."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from sgid.help import explain, own_folders

    error = _cause(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        text = str(error).strip()
        if error.__cause__ is not None and str(error.__cause__) not in text:
            text += f"\n{error.__cause__}"
        return explain(CONF, text, *own_folders(sys.argv[1:]))
    if isinstance(error, ValueError | OSError):
        return str(error)
    return None


def _cause(error: BaseException) -> BaseException:
    """What a source or transform itself raised, not Hydra's account of calling it."""
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _raised_here(error: BaseException) -> bool:
    """Whether this package raised it, so that its message says what to do; libraries say less."""
    frames = traceback.extract_tb(_cause(error).__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parent)
