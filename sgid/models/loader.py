"""The models of a run, loaded when they are first asked for, and kept for the next run."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from hydra.utils import instantiate

from sgid.config.schema import Config, ModelConfig
from sgid.models.weights import Weights, content_hash
from sgid.runtime.device import pick_device, pick_dtype, widest_dtype
from sgid.runtime.terminal import quiet_generation


@final
class Loaded:
    """What the runs of one process have in memory: for each role, the model last asked for.

    The runs of a sweep mostly share their models, and what these remember of prompts and originals.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[dict[str, Any], Any]] = {}

    def get(self, role: str, what: dict[str, Any], make: Callable[[], Any]) -> Any:
        """The model of `role` that `what` describes in full; made if it is not the one held."""
        if role not in self._held or self._held[role][0] != what:
            self._held.pop(role, None)  # first, so that two are never in memory,
            gc.collect()  # nor one that hooks hold on to
            self._held[role] = what, make()
        return self._held[role][1]


@final
class Models:
    """Captioner, scorer and generator of a config, each loaded once; `loaded` outlives them."""

    def __init__(
        self, config: Config, weights: dict[str, Weights], loaded: Loaded | None = None
    ) -> None:
        self.config = config
        self.weights = weights
        self.device = pick_device(config.trainer.device)
        self._loaded = loaded or Loaded()
        tiny = config.models.generator.tiny_vae
        self._tiny_vae = content_hash(Path(tiny).expanduser()) if tiny else None

    def identity(self, name: str) -> dict[str, Any]:
        """What of a model determines its results: its weights, number format and settings."""
        settings = self._settings(name)
        for how in ("_partial_", "batch_size", "compile"):
            settings.pop(how, None)
        if settings.get("tiny_vae"):
            settings["tiny_vae"] = self._tiny_vae
        settings["dtype"] = str(self._dtype(name)).removeprefix("torch.")
        return {**settings, "weights": self.weights[f"models.{_option(name)}"].identity}

    @property
    def captioner(self) -> Any:
        return self._get("captioner")

    @property
    def scorer(self) -> Any:
        return self._get("scorer")

    @property
    def exact_scorer(self) -> Any:
        """The scorer for the similarities that decide what is drawn: the same on all devices."""
        return self._get("exact_scorer")

    @property
    def generator(self) -> Any:
        steps = self.config.steps
        remembered = Path(self.config.paths.artifacts) / "batch_sizes.json"
        engine = self._get("generator", steps=steps, remembered=remembered)
        engine.steps = steps  # the only setting that an engine takes as it comes
        return engine

    def _get(self, name: str, **more: Any) -> Any:
        settings, folder = self._settings(name), self.weights[f"models.{_option(name)}"].folder

        def make() -> Any:
            quiet_generation()
            given = {**more, "device": self.device, "dtype": self._dtype(name)}
            return instantiate(settings, _convert_="all")(folder, **given)

        # The identity tells apart weights that have changed where they lie.
        what = {**settings, "is": self.identity(name), "at": folder, "on": self.device}
        return self._loaded.get(name, what, make)

    def _settings(self, name: str) -> dict[str, Any]:
        settings = asdict(self._config(name))
        for key in ("weights", "dtype", "size_multiple"):
            settings.pop(key, None)
        return settings

    def _dtype(self, name: str) -> Any:
        if name == "exact_scorer":
            return widest_dtype(self.device)
        return pick_dtype(self._config(name).dtype, self.device)

    def _config(self, name: str) -> ModelConfig:
        return getattr(self.config.models, _option(name))


def _option(name: str) -> str:
    """The option that a model is given by."""
    return name.removeprefix("exact_")
