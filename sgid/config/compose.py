"""Compose the typed config of a run from options as the command line has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.config.help import is_flag

if TYPE_CHECKING:
    from sgid.config.schema import Config


PACKAGE = Path(__file__).resolve().parents[1]


def find_conf() -> Path:
    """The folder of all choices: in the package where it is installed, beside it in a clone."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


CONF = find_conf()


def compose(options: Sequence[str]) -> Config:
    """The config of `python run.py OPTIONS`, every option but those of Hydra itself.

    Raises:
        ValueError: if it names code that is not to be called.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from sgid.config.schema import register
    from sgid.config.targets import refuse
    from sgid.config.words import typed

    register()
    # Hydra knows one config at a time, and within a run that is the run's. It puts a copy of what
    # it found in the place of the only `GlobalHydra`.
    one = GlobalHydra.instance()
    running, one.hydra = one.hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config: Any = OmegaConf.to_object(hydra.compose("config", typed(options, CONF)))
    finally:
        one.hydra = running
        GlobalHydra.set_instance(one)
    refuse(asdict(config), config.allow_targets)
    return config


def refuse_flags(words: Sequence[str]) -> None:
    """Raise a `ValueError` for flags of Hydra that read another `conf/`, or a pickle."""
    for word in words:
        name = word.partition("=")[0]
        if is_flag(name, "--config-path", "-cp") or is_flag(name, "--config-name", "-cn"):
            raise ValueError(f"{name}: there is conf/ alone; say --config-dir DIR to add to it")
        if is_flag(name, "--experimental-rerun"):
            raise ValueError(f"{name}: reads a pickle, which can run code; give the options again")
