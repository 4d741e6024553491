"""SGID: semantic-guided image augmentation with diffusion models (Li et al., AAAI 2024)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgid.api import as_datasets, compose, draw, look, open_store, run

__version__ = "0.1.0"

__all__ = ["as_datasets", "compose", "draw", "look", "open_store", "run"]


def __getattr__(name: str) -> Any:
    """The Python interface, `sgid.api`, imported when it is first asked for."""
    if name in __all__:
        return getattr(import_module("sgid.api"), name)
    raise AttributeError(f"module 'sgid' has no attribute {name!r}")
