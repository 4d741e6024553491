"""The models of a run, loaded when they are first asked for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, final

from hydra.utils import instantiate

from sgid.config import Config, ModelConfig
from sgid.device import pick_device, pick_dtype
from sgid.quiet import quiet
from sgid.weights import Located


@final
class Models:
    """Captioner, scorer and generator of a config, each loaded once."""

    def __init__(self, config: Config, weights: dict[str, Located]) -> None:
        self.config = config
        self.weights = weights
        self.device = pick_device(config.trainer.device)
        self._loaded: dict[str, Any] = {}

    def identity(self, name: str) -> dict[str, Any]:
        """What of a model determines its results: its weights, number format and settings."""
        settings = self._settings(name)
        del settings["batch_size"], settings["_partial_"]
        settings["dtype"] = str(self._dtype(name)).removeprefix("torch.")
        return {**settings, "weights": self.weights[f"models.{name}"].identity}

    @property
    def captioner(self) -> Any:
        return self._get("captioner")

    @property
    def scorer(self) -> Any:
        return self._get("scorer")

    @property
    def generator(self) -> Any:
        return self._get("generator", steps=self.config.steps)

    def _get(self, name: str, **more: Any) -> Any:
        if name not in self._loaded:
            quiet()
            make = instantiate(self._settings(name))
            folder = self.weights[f"models.{name}"].folder
            self._loaded[name] = make(folder, **more, device=self.device, dtype=self._dtype(name))
        return self._loaded[name]

    def _settings(self, name: str) -> dict[str, Any]:
        settings = asdict(self._config(name))
        for key in ("weights", "dtype", "size_multiple"):
            settings.pop(key, None)
        return settings

    def _dtype(self, name: str) -> Any:
        return pick_dtype(self._config(name).dtype, self.device)

    def _config(self, name: str) -> ModelConfig:
        return getattr(self.config.models, name)
