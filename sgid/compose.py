"""The typed config of a run from options as `run.py` takes them, for other command lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgid.config import Config

CONF = Path(__file__).resolve().parent.parent / "conf"


def compose(options: Sequence[str]) -> Config:
    """What `python run.py OPTIONS` would run with, every option but those of Hydra itself.

    Raises:
        ValueError: if it names code that is not to be called.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from sgid.config import register
    from sgid.own_files import refuse_files
    from sgid.targets import refuse

    refuse_files(options)
    register()
    # Hydra knows one config at a time, and within a run that is the run's. It puts a copy of what
    # it found in the place of the only `GlobalHydra`.
    one = GlobalHydra.instance()
    running, one.hydra = one.hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config: Any = OmegaConf.to_object(hydra.compose("config", list(options)))
    finally:
        one.hydra = running
        GlobalHydra.set_instance(one)
    refuse(config)
    return config
