"""The typed root config: every option that `conf/` may set, with its type.

Hydra checks every key and type against these dataclasses, so that a mistyped option is an error.
The stages never see this: `sgid.stages.run` turns it into plain objects once, at the entry.

An entry of `conf/aug/` names the slot it fills: `offline` (a generative method), `base` (what all
training images go through first), `online` (per image), or `batch` (Mixup and its like).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from omegaconf import MISSING, OmegaConf


class Stage(StrEnum):
    fetch = "fetch"
    data = "data"
    concepts = "concepts"
    screen = "screen"
    augment = "augment"
    train = "train"
    validate = "validate"
    evaluate = "evaluate"
    report = "report"
    export = "export"
    review = "review"
    check = "check"
    all = "all"


@dataclass
class PathsConfig:
    artifacts: str = MISSING
    results: str = MISSING
    data: str = MISSING


@dataclass
class DatasetConfig:
    name: str = MISSING
    source: Any = MISSING
    root: str | None = None
    noun: str | None = None
    trainval: bool = False
    train_per_class: int | None = None
    shots: int | None = None
    fraction: float | None = None
    imbalance: float | None = None
    validation: float = 0.1
    validation_seed: int | None = None
    test: float = 0.2
    max_bad: float = 0.05
    show: str | None = None
    classes: str | None = None
    captions: str | None = None
    duplicates: str = "keep"
    group: str | None = None
    full_scale: float | None = None
    size: int | None = None
    strict: bool = False
    licence: str | None = None


@dataclass
class WeightsConfig:
    """Weights on disk: a folder, or a snapshot in the hub's cache. See `sgid.models.weights`.

    `config` is a folder with the configs of a checkpoint in one file, where `id` has others.
    """

    layout: str = MISSING
    id: str | None = None
    revision: str | None = None
    path: str | None = None
    config: str | None = None


@dataclass
class ModelConfig:
    _target_: str = MISSING
    _partial_: bool = True
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    dtype: str = "auto"
    batch_size: int = MISSING


@dataclass
class CaptionerConfig(ModelConfig):
    dtype: str = "float32"
    candidates: int = 5
    top_p: float = 0.9
    max_tokens: int = 30
    seed: int = 0


@dataclass
class LoraConfig:
    """The file of a LoRA, and how strongly it counts."""

    path: str = MISSING
    scale: float = 1.0


@dataclass
class GeneratorConfig(ModelConfig):
    batch_size: Any = MISSING  # a number, or "auto"
    resolution: int = MISSING
    size_multiple: int = MISSING
    scheduler: str = "DPMSolverMultistepScheduler"
    compile: str | None = None
    guidance_interval: list[float] = field(default_factory=lambda: [0.0, 1.0])
    deep_cache: int = 1
    tiny_vae: str | None = None
    memory: str | None = None
    lora: list[LoraConfig] = field(default_factory=list)
    ip_adapter: str | None = None
    image_encoder: str | None = None
    controlnet: str | None = None


@dataclass
class ModelsConfig:
    name: str = MISSING
    knows: str | None = None
    known: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    guidance_scale: float = 7.5
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    scorer: ModelConfig = field(default_factory=ModelConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)


@dataclass
class BackboneConfig:
    name: str = MISSING
    model: Any = MISSING
    weights: WeightsConfig | None = None
    image_size: int | None = None
    optimizer: Any = MISSING
    trained: str = "all"
    layer_decay: float | None = None
    warmup: float = 0.05
    label_smoothing: float = 0.0
    batch_size: int = 64
    epochs: int | None = None
    steps: int | None = None


@dataclass
class MixConfig:
    how: str = "concatenate"
    probability: float = 0.5


@dataclass
class StoreConfig:
    path: str | None = None
    shard_size: int = 256
    format: str = "png"
    size: int | None = None
    verify: bool = False


@dataclass
class TrainerConfig:
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    workers: Any = "auto"  # or a number
    validations: int = 4
    compile: bool = False
    cache_gib: float = 2.0


@dataclass
class ClusterConfig:
    name: str = MISSING
    address: str | None = None
    storage: str | None = None
    min_workers: int = 1
    max_workers: int | None = None
    gpus: float | None = None
    cpus: int = 1
    attempts: int = 3


@dataclass
class EvaluationConfig:
    images: str | None = None
    classifier: str | None = None
    lpips: Any = "auto"  # or true, or false


@dataclass
class ExportConfig:
    to: str | None = None
    format: str = "imagefolder"
    originals: bool = False
    size: str = "generator"


@dataclass
class ReviewConfig:
    who: str | None = None
    port: int = 8000


@dataclass
class AdviseConfig:
    hours: float = 1.0
    candidates: list[str] = field(default_factory=list)
    seeds: int = 8
    first_steps: float = 1.0
    screened: int = 50
    least_score: float = 0.5


@dataclass
class Config:
    stage: Stage = Stage.all
    seed: int = 0
    noise_rate: float = 0.5
    expansion: int = 5
    steps: int = 20
    paths: PathsConfig = field(default_factory=PathsConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    guidance: dict[str, Any] = field(default_factory=dict)
    filter: dict[str, Any] = field(default_factory=dict)
    aug: dict[str, Any] = field(default_factory=dict)
    mix: MixConfig = field(default_factory=MixConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    review: ReviewConfig = field(default_factory=ReviewConfig)
    advise: AdviseConfig = field(default_factory=AdviseConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    allow_targets: list[str] = field(default_factory=list)


@cache
def register() -> None:
    """Make the schema and the `${assets:...}` resolver known to Hydra; call before composing."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver(
        "assets", lambda path: os.fspath(files("sgid") / "assets" / path), replace=True
    )


SLOTS = ("offline", "base", "online", "batch")


def in_slot(aug: Mapping[str, Any], slot: str) -> dict[str, dict[str, Any]]:
    """The chosen augmentations of one slot, in the order given, without the slot itself."""
    return {
        name: {key: value for key, value in entry.items() if key != "slot"}
        for name, entry in aug.items()
        if entry and entry.get("slot") == slot
    }
