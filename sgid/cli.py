"""The command line: Hydra's, with errors for people and a help of every option."""

from __future__ import annotations

import gc
import logging
import os
import shlex
import sys
import traceback
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sgid.config.compose import CONF, PACKAGE, run_choices
from sgid.config.help import own_folders
from sgid.errors import _raised_here, message
from sgid.runtime.launcher import ERROR, POINTER
from sgid.runtime.signals import Stopped, find_stop, stop_on_signals
from sgid.runtime.terminal import program

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sgid.config.schema import Config
    from sgid.models.loader import Loaded


OFFLINE = os.environ.get("HF_HUB_OFFLINE")
"""As the user has set it; runs set it as well, for the libraries that they import."""


WINDOWS = (
    "SGID does not run on Windows itself, which lacks the signals and file locks that it relies "
    "on; it runs there in WSL 2 (wsl --install)"
)


class Failed(Exception):
    """A job of a sweep that has already said why it failed."""


def main() -> int:
    """Run Hydra on `sys.argv`; the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a printed line must not end a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.platform == "win32":
        print(WINDOWS, file=sys.stderr)
        return 1
    if {"--help", "-h"} & set(sys.argv[1:]):
        from sgid.config.help import help_text

        try:
            print(help_text(CONF, *own_folders(sys.argv[1:])), flush=True)
        except BrokenPipeError:  # `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    typed = ["sgid"] if program() == "sgid" else ["python", sys.argv[0]]
    line = shlex.join([*typed, *sys.argv[1:]])
    try:
        with stop_on_signals():
            return _main()
    except (KeyboardInterrupt, Stopped) as stop:
        return _say_stopped(stop, line)


def _main() -> int:
    # Hydra then raises instead of printing a traceback of its own; what people see is below.
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if CONF.parent != PACKAGE:  # a clone: the processes of a launcher start elsewhere
        paths = [str(CONF.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    # Hydra's parser wants its flags before the options or after them, not among them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: "=" in word and not word.startswith("-"))
    for name in ("SGID_ARTIFACTS", "SGID_RESULTS", "SGID_DATA"):
        if os.environ.get(name) == "":  # as if it were not set, and not the folder itself
            del os.environ[name]
    import hydra

    from sgid.config.compose import refuse_flags
    from sgid.config.help import check_mappings
    from sgid.config.schema import register
    from sgid.config.words import repeated, typed

    register()
    # Importing libraries makes a million objects, none of them garbage, which the collector would
    # go through again and again.
    gc.set_threshold(20_000, 10, 10)
    try:
        refuse_flags(sys.argv[1:])
        check_mappings(*own_folders(sys.argv[1:]))
        for line in repeated(sys.argv[1:]):
            _say(line)
        sys.argv[1:] = typed(sys.argv[1:], CONF, *own_folders(sys.argv[1:]))
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(Job())()
    except Failed:
        return 1
    except Exception as error:
        if stop := find_stop(error):
            raise stop from error
        if debug:
            raise
        # Only Hydra's own folders are written to outside of a job.
        mode = "hydra.sweep.dir" if {"-m", "--multirun"} & set(sys.argv) else "hydra.run.dir"
        text = message(error, {mode: getattr(error, "filename", None) or "outputs"})
        if text is None:
            raise
        _say(text)
        return 1
    return 0


@final
class Job:
    """One run of a sweep, or the only one; an error is printed at once, and kept in its folder.

    The runs of one process share their models; a copy for the process of a launcher has none.
    """

    def __init__(self) -> None:
        self._loaded: Loaded | None = None

    def __reduce__(self) -> tuple[type[Job], tuple[()]]:
        return Job, ()

    def __call__(self, config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from sgid.models.loader import Loaded

        hydra_config = HydraConfig.get()
        output = Path(hydra_config.runtime.output_dir)
        self._loaded = self._loaded or Loaded()
        try:
            if hydra_config.job.chdir:
                raise ValueError(
                    "hydra.job.chdir=true: artifacts, results and data would be looked for in "
                    "each run's own folder; leave it false"
                )
            for name in (ERROR, POINTER):  # of a run before this one in the same folder
                (output / name).unlink(missing_ok=True)
            with stop_on_signals():  # a launcher's process has no `main`
                _run(config, self._loaded)
        except Exception as error:
            if stop := find_stop(error):
                raise stop from error
            several = hydra_config.mode is RunMode.MULTIRUN
            mode = "hydra.sweep.dir" if several else "hydra.run.dir"
            text = message(error, _places(config, output, mode))
            kept = _keep(error, text, output)
            if text is None:
                raise
            _say(text)
            if kept and not _raised_here(error):
                print(f"Where it arose: {output / ERROR}", file=sys.stderr)
            # Hydra lets the other jobs run and then raises the first error; only jobs that raise
            # count as failed with every launcher. An only job needs none of that.
            if several:
                raise Failed(text) from error
            raise SystemExit(1) from error


def _say(text: str) -> None:
    """An error, which may name files as strangers named them."""
    from sgid.data.listing import printable

    print("", *map(printable, text.splitlines()), sep="\n", file=sys.stderr)


def _keep(error: Exception, text: str | None, output: Path) -> bool:
    """Write why a run failed into its folder, first the message for people; whether it could."""
    first = text or "".join(traceback.format_exception_only(error)).strip()
    try:
        (output / ERROR).write_text(f"{first}\n\n{traceback.format_exc()}", encoding="utf-8")
    except OSError:  # a full disk, perhaps the very error
        return False
    return True


def _places(config: DictConfig, output: Path, mode: str) -> dict[str, str | Path]:
    """The folders that a run writes to, by option."""
    places = {f"paths.{name}": path for name, path in config.paths.items()}
    if config.export.to is not None:
        places["export.to"] = config.export.to
    return {**places, mode: output}


def _say_stopped(stop: BaseException, line: str) -> int:
    """Print the command that continues; the exit code."""
    from sgid.runtime.launcher import stop as stop_launched

    heard = find_stop(stop)
    by, code = (f" by {heard.signal.name}", heard.code) if heard else ("", 130)
    text = f"Stopped{by}. What is done is kept; the same command goes on from there:\n  {line}"
    with suppress(OSError):  # a terminal that is gone
        print(f"\n{text}{stop_launched()}", file=sys.stderr)
    return code


def _run(config: DictConfig, loaded: Loaded) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra_config = HydraConfig.get()
    typed: Any = OmegaConf.to_object(config)
    choices = run_choices(hydra_config.runtime.choices, typed)
    folder = run_config(typed, choices, list(hydra_config.overrides.task), loaded)
    output = Path(hydra_config.runtime.output_dir)
    (output / POINTER).write_text(str(folder.resolve()) if folder else "")


def run_config(
    config: Config, choices: dict[str, Any], overrides: list[str], loaded: Loaded
) -> Path | None:
    """Run the stages of a config in this process; the folder of the result, if they leave one.

    Args:
        choices: as `sgid.config.compose.run_choices` gives them.
        overrides: the options as they were given, for messages and the result.
        loaded: models of earlier runs, which are taken where they fit.
    """
    from rich.console import Console

    from sgid.config.schema import Stage

    if config.stage is Stage.fetch:
        from sgid.models.hub import online
        from sgid.stages.run import fetch

        with online(unless=OFFLINE is not None):
            fetch(config, overrides, Console(soft_wrap=True))
        return None
    # Nothing but `stage=fetch` asks a server for anything.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Matplotlib's list of fonts and W&B's own logs would go to the home directory.
    artifacts = Path(config.paths.artifacts).absolute()
    os.environ.setdefault("MPLCONFIGDIR", str(artifacts / "fonts"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(artifacts / "wandb"))
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # Some of these are read when the libraries are imported.
    from sgid.pipeline import run
    from sgid.stages.run import prepare

    prepared = prepare(config, choices, overrides, loaded=loaded)
    return run(prepared, Console(soft_wrap=True))
