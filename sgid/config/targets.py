"""Targets: the functions and classes that a config may call, and their names in specs.

`_target_` names code, and Hydra calls whatever it names. Each place of the config calls what
belongs there, from this package and the libraries it knows. Anything else is called if its
package, or it alone, is named on the command line: `allow_targets=[my_package]`. A config folder of
one's own (`--config-dir`) is code: read it before you use it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

OPTION = "allow_targets"


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
    r"aug\.[^.]+\.(prompt|negative_prompt)": ("sgid.methods.prompts",),
    r"aug\.[^.]+\.(strength|image_prompt\.scale)": ("sgid.methods.strength",),
    r"aug\.[^.]+\.(target|budget|prepare|adapters|changes|select|on_latents|on_pixels)": (
        "sgid.methods.*",
    ),
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


def refuse(settings: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Look at all that a config would have called, before any of it is.

    Raises:
        ValueError: naming each target that is not to be called, and the option that allows it.
    """
    if wrong := refused(settings, allowed=allowed):
        raise ValueError("\n".join(wrong))


def identity(settings: Any) -> Any:
    """`settings` with each call by a short name: `{"linear": {"min": 3}}`, or `"label"` alone.

    Of this package a target is named by its last part, so that specs do not change when a module
    moves; of other packages by its whole path.
    """
    if isinstance(settings, Mapping):
        given = {
            key: identity(value)
            for key, value in settings.items()
            if key not in ("_target_", "_partial_", "_convert_", "_recursive_")
        }
        if "_target_" not in settings:
            return given
        name = short_name(str(settings["_target_"]))
        return {name: given} if given else name
    if isinstance(settings, list | tuple):
        return [identity(value) for value in settings]
    return settings


def with_short_names(settings: Any) -> Any:
    """`settings` as they are, but that each `_target_` is a short name: for results."""
    if isinstance(settings, Mapping):
        return {
            key: short_name(value)
            if key == "_target_" and isinstance(value, str)
            else with_short_names(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return [with_short_names(value) for value in settings]
    return settings


def short_name(target: str) -> str:
    """The name of a target in specs: `stable_diffusion` for our `StableDiffusionEngine`."""
    if not target.startswith("sgid."):
        return target
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", target.rpartition(".")[2]).lower()
    return re.sub(r"_(engine|captioner|scorer|model)$", "", words)


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
    if any(f"{target}.".startswith(f"{one}.") for one in allowed):
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
