"""Messages for people about what a machine refuses: full disks, closed folders, memory, files."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sgid.config.compose import CONF

FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "is full: its quota is used up"}


CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


AWAY = {
    getattr(errno, name, None)
    for name in ("EBADFD", "ESTALE", "ENOTCONN", "EHOSTDOWN", "EREMOTEIO", "ETIMEDOUT")
} - {None}
"""Errors of network file systems whose server does not answer."""


WORTH = "What is done is kept, and the same command goes on from there"


def fault(error: BaseException, places: Mapping[str, str | Path]) -> str | None:
    """The message for people about an error of the machine; `None` for any other error.

    `places` are the folders that a run writes to, by the option that names each.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"Out of memory: {_first_line(error) or 'the machine has no more'}. {WORTH}; fewer "
            "images at a time need less: models.captioner.batch_size, models.scorer.batch_size, "
            "models.generator.batch_size, backbone.batch_size"
        )
    number = error.errno if isinstance(error, OSError) else None
    if number is None and "PytorchStreamWriter failed" in str(error):
        number = errno.ENOSPC if _fullest(places)[1] < 2**20 else None
    if number in (errno.EMFILE, errno.ENFILE):
        return (
            f"{os.strerror(number)}: raise the limit with `ulimit -n 4096`, or use "
            f"trainer.workers=0. {WORTH}"
        )
    if number in FULL:
        option, left = _place(error, places), None
        if option is None and places:
            option, left = _fullest(places)
        if option is None:
            return f"{_named(error) or 'The disk'} {FULL[number]}: free some"
        left = _free(places[option]) if left is None else left
        return (
            f"{places[option]} {FULL[number]} ({left / 2**20:,.0f} MB left): free some, or give "
            f"another place with {option}=DIR (now {places[option]}). {WORTH}"
        )
    if number == errno.EFBIG:
        return f"{_named(error)} is larger than a file may be here (`ulimit -f`). {WORTH}"
    if number is not None and number in AWAY:
        which = ", ".join(f"{option}={place}" for option, place in places.items())
        what = _named(error) or (f"The file system of one of {which}" if which else "A file system")
        return f"{what}: {os.strerror(number)}. Its server may have been away. {WORTH}"
    if number in CLOSED and _named(error):
        said = f"{_named(error)} cannot be used: {os.strerror(number)}"
        option = _place(error, places)
        if option is None:
            return said
        return f"{said}; another place: {option}=DIR (now {places[option]})"
    return None


def _place(error: BaseException, places: Mapping[str, str | Path]) -> str | None:
    """The option of the innermost place that the file of an error lies in."""
    if not _named(error):
        return None
    path = Path(_named(error)).absolute()
    holding = {
        option: Path(place).absolute()
        for option, place in places.items()
        if path.is_relative_to(Path(place).absolute())
        or Path(place).absolute().is_relative_to(path)  # a folder above it, not made yet
    }
    return max(holding, key=lambda option: len(holding[option].parts), default=None)


def _fullest(places: Mapping[str, str | Path]) -> tuple[str, int]:
    """The option of the place with the fewest bytes left, and how many."""
    left = {option: _free(place) for option, place in places.items()}
    option = min(left, key=lambda one: left[one])
    return option, left[option]


def _free(place: str | Path) -> int:
    """Bytes left where a folder is, or will be."""
    path = Path(place).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _named(error: BaseException) -> str:
    """The file that an error is about, if it says so."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


_NOWHERE: Mapping[str, str | Path] = MappingProxyType({})


def message(error: BaseException, places: Mapping[str, str | Path] = _NOWHERE) -> str | None:
    """The message for people, or `None` for an error that only a developer can correct.

    `places` are the folders that are written to, by the option that names each.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from sgid.config.help import explain, explain_yaml, own_folders

    error = _cause(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        text = str(error).strip()
        if error.__cause__ is not None and str(error.__cause__) not in text:
            text += f"\n{error.__cause__}"
        if "Could not load 'hydra/launcher/submitit_" in text:
            return "SLURM's launchers need Hydra's plugin for them: pip install 'sgid[cluster]'"
        return explain(CONF, text, *own_folders(sys.argv[1:]))
    if text := fault(error, places):
        return text
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return explain_yaml(*own_folders(sys.argv[1:])) or str(error)
    if isinstance(error, ValueError | OSError):
        return str(error)
    return _of_launcher(error)


def _of_launcher(error: BaseException) -> str | None:
    """The message of submitit about SLURM, or a killed job; `None` for other errors."""
    if type(error).__name__ == "UncompletedJobError":
        from sgid.runtime.slurm import ENDED

        first = " ".join(str(error).splitlines()[:2])
        found = re.search(r"\(state: (\w+)", first)
        words = ENDED.get(found[1] if found else "", "Killed or out of memory")
        return f"A job ended without a result: {words}. {first}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and "submitit" in Path(frames[-1].filename).parts
    if not ours or not isinstance(error, RuntimeError):
        return None
    text = str(error).strip()
    if "sbatch: error" in text:
        text += "\nA job asks for hydra.launcher.cpus_per_task, hydra.launcher.mem_gb, "
        text += "hydra.launcher.gpus_per_node and hydra.launcher.partition: docs/slurm.md"
    return f"hydra/launcher: {text}"


def _cause(error: BaseException) -> BaseException:
    """The error that a source or transform itself raised, not Hydra's account of the call."""
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _raised_here(error: BaseException) -> bool:
    """Whether this package raised it, so that its message says what to do; libraries say less."""
    frames = traceback.extract_tb(_cause(error).__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parent)
