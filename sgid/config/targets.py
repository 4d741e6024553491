"""Which code a config may have called: `_target_` names it, and Hydra calls whatever it names.

A YAML file that somebody hands on is read as data, and so is what a store or a result says of
itself. Each place of the config therefore calls what belongs there, from this package and the
libraries it knows. What is not from there is called if its package, or it alone, is named on the
command line: `allow_targets=[my_package]`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgid.config.schema import Config


OPTION = "allow_targets"


HYDRA = "hydra"
"""No package: files that `sgid.config.compose` lets speak to Hydra where it stands in the
option.
"""

# A place in the config, and the modules of which it may call something. `*` is one module. What
# these import themselves is never reached: see `_is_own`.
PLACES = {
    r"dataset\.source": ("sgid.data.sources.*",),
    r"models\.captioner": ("sgid.models.blip",),
    r"models\.scorer": ("sgid.models.clip",),
    r"models\.generator": (
        "sgid.generation.stable_diffusion",
        "sgid.generation.diffusers_pipeline",
    ),
    r"backbone\.model": ("sgid.training.backbones", "sgid.training.clip_backbone"),
    r"backbone\.optimizer": ("torch.optim", "timm.optim"),
    r"(aug\.[^.]+\.)?guidance": ("sgid.methods.guidance",),
    r"aug\.[^.]+\.transform": (
        *("sgid.training.transforms", "sgid.training.erasing"),
        *("torchvision.transforms", "torchvision.transforms.v2"),
    ),
    r"filter": ("sgid.evaluation.filters",),
    r"logger": ("sgid.reporting.wandb",),
}


def refused(settings: Any, place: str = "", allowed: Sequence[str] = ()) -> list[str]:
    """A line for each `_target_` in `settings`, at `place` in the config, that is not to be called.

    `allowed` is what the user named: packages, or targets. Text that Hydra would take for an
    interpolation counts as a target too: it may stand for one.
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
    module, _, name = target.rpartition(".")
    if any(f"{target}.".startswith(f"{one}.") for one in allowed if one != HYDRA):
        return bool(module) and "${" not in target
    patterns = (re.escape(one).replace(r"\*", r"[a-z]\w*") for one in modules)
    fits = any(re.fullmatch(pattern, module) for pattern in patterns)
    return fits and _is_own(module, name)


def _is_own(module: str, name: str) -> bool:
    """Whether a name in a module is of a public function or class of its own, not of an import.

    Of other libraries' modules, which are not imported for this, classes alone are told apart: by
    the capital letter. The tests see to it that it holds.
    """
    if module.startswith("sgid."):
        return name in _defined(module)
    return re.fullmatch(r"[A-Z]\w*", name) is not None


@cache
def _defined(module: str) -> frozenset[str]:
    """The public functions and classes that a module of this package defines."""
    file = Path(__file__).parents[1].joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not file.is_file():
        return frozenset()
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = (one.name for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef))
    return frozenset(name for name in names if not name.startswith("_"))


def _told(option: str, value: str, modules: Sequence[str]) -> str:
    if "${" in value:
        return f"{option}={value}: what it stands for would only be known when it is called"
    package = value.partition(".")[0]
    known = f"no class or function of {' or '.join(modules)}" if modules else "in no place for one"
    return (
        f"{option}={value}: not called, since it is {known}; if you know that code and trust it, "
        f"say {OPTION}=[{package}]"
    )
