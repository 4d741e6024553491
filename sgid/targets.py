"""Which code a config may have called: `_target_` names it, and Hydra calls whatever it names.

A YAML file that somebody hands on is read as data, and so is what a store or a result says of
itself. Each place of the config therefore calls what belongs there, from this package and the
libraries it knows. What is not from there is called if its package is named on the command line:
`allow_targets=[my_package]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.help import own_folders

if TYPE_CHECKING:
    from sgid.config import Config

OPTION = "allow_targets"

# A place in the config, and the modules of which it may call something. `*` is one module. What
# modules of other libraries import themselves is never reached: `torch.optim.SGD` is, and neither
# `torch.load` nor `torch.optim.adamw.torch.load`.
PLACES = {
    r"dataset\.source": ("sgid.data.sources.*",),
    r"models\.captioner": ("sgid.semantics.captions",),
    r"models\.scorer": ("sgid.semantics.similarity",),
    r"models\.generator": ("sgid.generation.engine", "sgid.generation.pipelines"),
    r"backbone\.model": ("sgid.training.backbones", "sgid.training.clip"),
    r"backbone\.optimizer": ("torch.optim", "timm.optim"),
    r"(aug\.[^.]+\.)?guidance": ("sgid.semantics.guidance",),
    r"aug\.[^.]+\.transform": (
        *("sgid.augmentation.transforms", "sgid.augmentation.erasing"),
        *("torchvision.transforms", "torchvision.transforms.v2"),
    ),
    r"filter": ("sgid.evaluation.filters",),
    r"logger": ("sgid.reporting.wandb_log",),
}


def refused(settings: Any, place: str = "", allowed: Sequence[str] = ()) -> list[str]:
    """A line for each `_target_` in `settings`, at `place` in the config, that is not to be called.

    `allowed` are the packages that the user named. Text that Hydra would take for an interpolation
    counts as a target too: it may stand for one.
    """
    return [
        _told(option, value, _modules(option))
        for option, value in _called(settings, place)
        if not _is_called(value, _modules(option), allowed)
    ]


def refuse(config: Config) -> None:
    """Look at all that `config` would have called, before any of it is.

    Raises:
        ValueError: naming each target that is not to be called, and the option that allows it.
    """
    if wrong := refused(asdict(config), allowed=config.allow_targets):
        raise ValueError("\n".join(wrong))


def refuse_files(options: Sequence[str]) -> None:
    """Look through the folders that a command line adds to `conf/`, before Hydra reads them.

    A file there cannot allow what it names itself. And what a file says to Hydra, below `hydra`, is
    called before a run begins: where any file speaks of that, the targets of all are looked at.

    Raises:
        ValueError: naming the file, and what is wrong with it.
    """
    said = [option.partition("=")[2] for option in options if re.match(rf"\+*{OPTION}=", option)]
    allowed = re.findall(r"[\w.]+", " ".join(said))
    everywhere = tuple(module for modules in PLACES.values() for module in modules)
    read = [(file, _read(file, top)) for top in own_folders(options) for file in _files(top)]
    to_hydra = [file for file, texts in read if any("hydra" in text for _, text in texts)]
    for file, texts in read:
        if any(key == OPTION for _, key in texts):
            raise ValueError(f"{file} says {OPTION}: only the command line can, {OPTION}=[PACKAGE]")
        for option, value in texts if to_hydra else ():
            if option == "_target_" and not _is_called(value, everywhere, allowed):
                raise ValueError(
                    f"{file}: {_told(option, value, everywhere)}\n"
                    f"(All targets are looked at, since {to_hydra[0]} speaks to Hydra itself.)"
                )


def _called(settings: Any, place: str) -> Iterator[tuple[str, str]]:
    """Option and value of all that names what is to be called, at any depth."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            option = f"{place}.{key}" if place else str(key)
            if key == "_target_":
                yield option, str(value)
            else:
                yield from _called(value, option)
    elif isinstance(settings, list | tuple):
        for index, value in enumerate(settings):
            yield from _called(value, f"{place}.{index}")
    elif isinstance(settings, str) and "${" in settings:
        yield place, settings


def _modules(option: str) -> tuple[str, ...]:
    """The modules that may be called at `option`."""
    fits = [modules for pattern, modules in PLACES.items() if re.match(rf"{pattern}\.", option)]
    return fits[0] if fits else ()


def _is_called(target: str, modules: Sequence[str], allowed: Sequence[str]) -> bool:
    if any(target.startswith(f"{package}.") for package in allowed):
        return "${" not in target
    patterns = (re.escape(module).replace(r"\*", r"[a-z]\w*") for module in modules)
    return any(re.fullmatch(rf"{pattern}\.[A-Za-z]\w*", target) for pattern in patterns)


def _told(option: str, value: str, modules: Sequence[str]) -> str:
    if "${" in value:
        return f"{option}={value}: what it stands for would only be known when it is called"
    package = value.partition(".")[0]
    known = f"is not from {' or '.join(modules)}" if modules else "nothing is called here"
    return (
        f"{option}={value}: not called, since it {known}; if you know that code and trust it, say "
        f"{OPTION}=[{package}]"
    )


def _files(top: Path) -> list[Path]:
    """Every YAML file below `top`, hidden and linked ones too; each real folder once."""
    entered: set[str] = set()
    found = []
    for folder, folders, files in os.walk(top, followlinks=True):
        if (real := os.path.realpath(folder)) in entered:
            folders.clear()
            continue
        entered.add(real)
        found += [Path(folder, name) for name in files if name.endswith(".yaml")]
    return sorted(found)


def _read(file: Path, top: Path) -> list[tuple[str, str]]:
    """Every text in a file with its key, keys and the header (`# @package`) among them.

    The path below `top` is one of them: a file in `hydra/launcher/` speaks to Hydra.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    header = [line for line in text.splitlines() if line.startswith("#") and "@package" in line]
    return [("", one) for one in (str(file.relative_to(top)), *header)] + [*_texts("", content)]


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield key, str(name)
            yield from _texts(str(name), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(key, inner)
    else:
        yield key, str(value)
