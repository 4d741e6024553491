"""The models of a run, loaded when they are first asked for, and kept for the next run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from hydra.utils import instantiate

from sgid.config.schema import ModelConfig, ModelsConfig
from sgid.config.targets import identity
from sgid.models.conditioning import (
    OPTIONS,
    conditioning_identity,
    find_controlnet,
    find_image_encoder,
    find_ip_adapter,
)
from sgid.models.lora import LORA, find_lora, lora_hash
from sgid.models.weights import Weights, content_hash
from sgid.records import Adapter
from sgid.runtime.device import pick_dtype, widest_dtype
from sgid.runtime.terminal import quiet_generation

if TYPE_CHECKING:
    import torch

UNUSED = {
    "guidance_interval": [0.0, 1.0], "deep_cache": 1, "tiny_vae": None, "lora": [], "memory": None,
}  # fmt: skip
"""Options of a generator that are off, and so in no spec."""


@final
class Loaded:
    """The models in the memory of a process: for each role, the one last asked for.

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
    """Captioner, scorer and generator of a run, each loaded once; `loaded` outlives them."""

    def __init__(
        self,
        settings: ModelsConfig,
        weights: Mapping[str, Weights],
        *,
        device: torch.device,
        steps: int,
        remembered: Path | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        """Take the section `models`, and where the weights of each lie, by option.

        Args:
            steps: denoising steps at strength 1.
            remembered: the file of the batch sizes that were found, or `None`.
        """
        self.settings = settings
        self.weights = weights
        self.device = device
        self.steps = steps
        self.remembered = remembered
        self._loaded = loaded or Loaded()
        self._conditioning: dict[str, dict[str, str]] = {}
        tiny = settings.generator.tiny_vae
        self._tiny_vae = content_hash(Path(tiny).expanduser()) if tiny else None
        self._lora = [
            {"content": lora_hash(find_lora(one.path, LORA)), "scale": one.scale}
            for one in settings.generator.lora
        ]

    @property
    def lora(self) -> list[Adapter]:
        """The LoRAs that are merged into the generator."""
        given = self.settings.generator.lora
        return [Adapter(find_lora(one.path, LORA), one.scale) for one in given]

    def conditioning(self, name: str) -> dict[str, str]:
        """The identity of the generator's `ip_adapter` or `controlnet`, for methods that use it."""
        if name not in self._conditioning:  # gigabytes to read
            self._conditioning[name] = conditioning_identity(name, self.settings.generator)
        return self._conditioning[name]

    def identity(self, name: str) -> dict[str, Any]:
        """All of a model that determines its results: weights, number format and settings.

        What only some methods draw with is `conditioning`.
        """
        settings = self._settings(name)
        for how in ("batch_size", "compile", *OPTIONS):
            settings.pop(how, None)
        if settings.get("memory") == "low":  # the same images; see `sgid.generation.memory`
            settings.pop("memory")
        if settings.get("tiny_vae"):
            settings["tiny_vae"] = self._tiny_vae
        if settings.get("lora"):
            settings["lora"] = self._lora
        used = {key: value for key, value in settings.items() if UNUSED.get(key, ...) != value}
        dtype = str(self._dtype(name)).removeprefix("torch.")
        weights = self.weights[f"models.{_option(name)}"].identity
        return identity({**used, "dtype": dtype, "weights": weights})

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
        engine = self._get("generator", steps=self.steps, remembered=self.remembered)
        engine.steps = self.steps  # the only setting that an engine takes as it comes
        return engine

    def _get(self, name: str, **more: Any) -> Any:
        settings, weights = self._settings(name), self.weights[f"models.{_option(name)}"]
        folder = weights.folder

        def make() -> Any:
            quiet_generation()
            given = {**more, "device": self.device, "dtype": self._dtype(name)}
            if settings.get("lora"):
                given["lora"] = self.lora
            if weights.file is not None:  # engines of one's own need not know of it
                given["checkpoint"] = weights.file
            given |= places
            return instantiate(settings, _convert_="all")(folder, **given)

        places = self._places(settings)
        # The identity tells apart weights that have changed where they lie.
        further = [self.conditioning(one) for one in ("ip_adapter", "controlnet") if one in places]
        what = {
            **settings, "is": [self.identity(name), *further], "at": weights.file or folder,
            "on": self.device,
        }  # fmt: skip
        return self._loaded.get(name, what, make)

    def _places(self, settings: Mapping[str, Any]) -> dict[str, Path]:
        """Folders and files of further models of the generator, by the engine's arguments."""
        places = {}
        if file := settings.get("ip_adapter"):
            places["ip_adapter"] = find_ip_adapter(file)
            places["image_encoder"] = find_image_encoder(self.settings.generator)
        if folder := settings.get("controlnet"):
            places["controlnet"] = find_controlnet(folder)
        return places

    def _settings(self, name: str) -> dict[str, Any]:
        settings = asdict(self._config(name))
        for key in ("lora", "memory", *OPTIONS):
            if not settings.get(key):
                settings.pop(key, None)  # engines of one's own need not know of it
        for key in ("weights", "dtype", "size_multiple"):
            settings.pop(key, None)
        return settings

    def _dtype(self, name: str) -> Any:
        if name == "exact_scorer":
            return widest_dtype(self.device)
        return pick_dtype(self._config(name).dtype, self.device)

    def _config(self, name: str) -> ModelConfig:
        return getattr(self.settings, _option(name))


def _option(name: str) -> str:
    """The option that a model is given by."""
    return name.removeprefix("exact_")
