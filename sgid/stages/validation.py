"""Ranges and choices of every option, checked before any work."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from sgid.config.schema import SLOTS, ClusterConfig, Config, GeneratorConfig, Stage, in_slot
from sgid.data.captions import HOW
from sgid.generation.diffusers_pipeline import OWN_LOOP, PipelineEngine
from sgid.generation.memory import MODES
from sgid.runtime.batching import AUTO
from sgid.runtime.device import DEVICES, DTYPES
from sgid.stages.method_validation import ascending, guidance_problems, method_problems

LONGEST_NAME = 200
"""Bytes of a name that files are named for: file systems take 255, with what is added."""

LONGEST_TEMPORARY = 107 - len("/pymp-12345678/listener-12345678")
"""Letters of the folder of the sockets of loading processes: of a whole path, systems take 107."""

AT_LEAST = {
    2: ("advise.seeds",),  # one says nothing about chance
    1: (
        *("expansion", "steps", "store.shard_size", "store.size"),
        *("trainer.validations", "trainer.devices"),
        *(f"cluster.{key}" for key in ("min_workers", "max_workers", "cpus", "attempts")),
        *(f"dataset.{key}" for key in ("shots", "train_per_class", "imbalance", "size")),
        *(f"backbone.{key}" for key in ("batch_size", "epochs", "steps", "image_size")),
        *("models.captioner.batch_size", "models.scorer.batch_size", "models.generator.deep_cache"),
        *(f"models.captioner.{key}" for key in ("candidates", "max_tokens")),
        *(f"models.generator.{key}" for key in ("resolution", "size_multiple")),
    ),
    0: ("trainer.cache_gib", "cluster.gpus", "review.port", "advise.hours"),
}
"""Smallest values of options that are numbers; `null` is left to its type."""

SHARES = {
    "above 0, at most 1": (
        *("noise_rate", "models.captioner.top_p", "dataset.fraction", "backbone.layer_decay"),
        "advise.first_steps",
    ),
    "above 0, below 1": ("dataset.validation", "dataset.test"),
    "at least 0, below 1": ("dataset.max_bad", "backbone.warmup", "backbone.label_smoothing"),
    "at least 0, at most 1": ("mix.probability", "advise.least_score"),
}

CHOICES = {
    "mix.how": ("concatenate", "replace"),
    "dataset.captions": (None, *HOW),
    "backbone.trained": ("all", "head"),
    "store.format": ("png", "webp", "jpeg"),
    "export.format": ("imagefolder", "webdataset", "datasets", "yolo"),
    "export.size": ("generator", "original"),
    "trainer.precision": (
        *("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
    ),
    "models.generator.compile": (None, "default", "reduce-overhead", "max-autotune"),
    "models.generator.memory": MODES,
    "models.captioner.dtype": DTYPES,
    "models.scorer.dtype": DTYPES,
    "models.generator.dtype": DTYPES,
}


def invalid_options(config: Config) -> list[str]:
    """A line for each value that cannot be; empty when all can."""
    return [*_numbers(config), *_names(config), *_augmentations(config)]


def _numbers(config: Config) -> Iterator[str]:
    for least, options in AT_LEAST.items():
        for option in options:
            value = attrgetter(option)(config)
            if value is not None and not value >= least:
                yield f"{option}={value}: must be at least {least}"
    if (screened := config.advise.screened) < 2 and screened != 0:  # two of each original
        yield f"advise.screened={screened}: must be 0 or at least 2"
    for rule, options in SHARES.items():
        for option in options:
            value = attrgetter(option)(config)
            if value is None:
                continue
            inside = 0 < value < 1 or (value == 0 and "least 0" in rule)
            if not inside and not (value == 1 and "most 1" in rule):
                yield f"{option}={value}: must be {rule}"
    steps, epochs = config.backbone.steps, config.backbone.epochs
    if (steps is None) == (epochs is None):
        yield (
            f"backbone.steps={steps} and backbone.epochs={epochs}: one of them must be null, and "
            "one a number"
        )
    size, devices = config.backbone.batch_size, config.trainer.devices
    if devices > 1 and size % devices:
        yield (
            f"backbone.batch_size={size}: must be a multiple of trainer.devices={devices}, each of "
            "which has an equal part of a batch"
        )


def _names(config: Config) -> Iterator[str]:
    if (name := config.dataset.name) != Path(name).name or name in ("", ".."):
        yield f"dataset.name={name}: files are named for it, so it must be a name without a folder"
    elif len(name.encode()) > LONGEST_NAME:
        yield (
            f"dataset.name={name[:20]}...: files are named for it, so it may have {LONGEST_NAME} "
            f"bytes, and has {len(name.encode())}"
        )
    if config.trainer.device.partition(":")[0] not in DEVICES:
        yield f"trainer.device={config.trainer.device}: must be one of {', '.join(DEVICES)}"
    for option, choices in CHOICES.items():
        value = attrgetter(option)(config)
        if value not in choices:
            yield f"{option}={value}: must be one of {', '.join(map(_written, choices))}"
    yield from _evaluation(config)
    yield from _of_stores(config)
    yield from cluster_problems(config.cluster)
    workers = config.trainer.workers
    if workers != AUTO and not (isinstance(workers, int) and workers >= 0):
        yield f"trainer.workers={workers}: must be {AUTO}, or a number that is at least 0"
    temporary = tempfile.gettempdir()
    if workers not in (0, AUTO) and len(temporary) > LONGEST_TEMPORARY:
        yield (
            f"trainer.workers={workers}: the folder for temporary files, {temporary}, has a name "
            f"of more than {LONGEST_TEMPORARY} letters, too long for the sockets of these "
            "processes; set TMPDIR=/tmp, or trainer.workers=0"
        )
    yield from _generator(config.models.generator)


def _evaluation(config: Config) -> Iterator[str]:
    asked = config.evaluation
    if asked.images is not None and config.stage is not Stage.evaluate:
        yield (
            f"evaluation.images={asked.images}: measured by stage=evaluate alone, not by "
            f"stage={config.stage.value}"
        )
    if asked.lpips not in ("auto", True, False):
        yield f"evaluation.lpips={asked.lpips}: must be one of auto, true, false"


def _of_stores(config: Config) -> Iterator[str]:
    """Problems of the stages that look at the images of a store."""
    stage, store, to = config.stage, config.store.path, config.export.to
    if stage is Stage.export:
        for option, value in (("store", store), ("export.to", to)):
            if value is None:
                yield f"stage=export needs {option}={_PLACES[option]}"
    elif to is not None:
        yield f"export.to={to}: used by stage=export alone, not by stage={stage.value}"
    if store is not None and stage not in (Stage.export, Stage.review):
        yield f"store={store}: used by stage=review and stage=export, not by stage={stage.value}"
    if config.review.port > 65535:
        yield f"review.port={config.review.port}: must be at most 65535"
    if stage is Stage.review:
        lacking = [one for one in ("fastapi", "uvicorn") if find_spec(one) is None]
        if lacking:
            yield f'stage=review needs {" and ".join(lacking)}: pip install "sgid[human]"'


_PLACES = {"store": "PATH, artifacts/generated/<fingerprint>", "export.to": "DIR, a new folder"}


def _generator(settings: GeneratorConfig) -> Iterator[str]:
    if settings._target_.endswith(f".{PipelineEngine.__name__}"):
        for option, off in OWN_LOOP.items():
            if (value := getattr(settings, option)) != off:
                yield (
                    f"models.generator.{option}={_written(value)}: models=any calls the model's "
                    f"own pipeline, which cannot; take models.generator.{option}={_written(off)}, "
                    "or one of models=sd15, sd21, sdxl, ..."
                )
    beside = {"compile": None, "deep_cache": 1, "tiny_vae": None}
    beside |= {"ip_adapter": None, "controlnet": None}
    for option, off in beside.items() if settings.memory else ():
        if (value := getattr(settings, option)) != off:
            yield (
                f"models.generator.memory={settings.memory} and models.generator.{option}={value}: "
                "not together, since parts of the model come and go; take one of them"
            )
    for one in settings.lora:
        if not -10 <= one.scale <= 10:
            yield f"models.generator.lora: scale={one.scale}: must be within -10 and 10"
    scheduler, size = settings.scheduler, settings.batch_size
    if scheduler != "own" and scheduler not in _schedulers():
        yield (
            f"models.generator.scheduler={scheduler}: must be a scheduler of diffusers, such as "
            "DPMSolverMultistepScheduler or DDIMScheduler, or own: the model's"
        )
    if size != AUTO and not (isinstance(size, int) and size >= 1):
        yield f"models.generator.batch_size={size}: must be {AUTO}, or a number that is at least 1"
    if not ascending(settings.guidance_interval):
        yield (
            f"models.generator.guidance_interval={settings.guidance_interval}: must be two numbers "
            "within 0 and 1, the lower first"
        )


def _written(value: Any) -> str:
    """A name as the command line has it."""
    return "null" if value is None else str(value)


def _augmentations(config: Config) -> Iterator[str]:
    yield from guidance_problems("guidance", config.guidance)
    for name, entry in config.aug.items():
        slot = (entry or {}).get("slot")
        if entry and slot not in SLOTS:
            yield f"aug.{name}.slot={slot}: must be one of {', '.join(SLOTS)}"
        elif slot == "offline":
            yield from method_problems(f"aug.{name}", entry, config)
    if not config.aug:
        yield "aug=[]: name one; flip_crop is random flip and crop alone, none is nothing at all"
    if len(bases := list(in_slot(config.aug, "base"))) > 1:
        yield f"aug={','.join(bases)}: each says what images go through first; take one of them"
    yield from _filter(config.filter)


def _filter(settings: dict[str, Any]) -> Iterator[str]:
    low, high = settings.get("min", -1), settings.get("max", 1)
    if not _numbers_within(-1, low, high, 1) or low == high:
        yield f"filter.min={low}, filter.max={high}: must be cosines in [-1, 1], the lower first"


def _numbers_within(*values: Any) -> bool:
    """Whether these are numbers in ascending order."""
    numbers = all(isinstance(value, int | float) for value in values)
    return numbers and list(values) == sorted(values)


@cache
def _schedulers() -> frozenset[str]:
    """The names in diffusers' index of schedulers, read as text: to import it takes seconds."""
    found = find_spec("diffusers")
    assert found is not None and found.origin is not None
    index = Path(found.origin).parent / "schedulers" / "__init__.py"
    return frozenset(re.findall(r'"(\w+Scheduler)"', index.read_text(encoding="utf-8")))


NAMES = ("none", "ray")


def cluster_problems(asked: ClusterConfig) -> Iterator[str]:
    """A line for each value that cannot be; none when all can."""
    if asked.name not in NAMES:
        yield f"cluster.name={asked.name}: must be one of {', '.join(NAMES)}"
        return
    if asked.name == "none":
        for one in fields(ClusterConfig)[1:]:
            if (value := getattr(asked, one.name)) != one.default:
                yield f"cluster.{one.name}={value}: without cluster=ray there is no cluster"
        return
    if find_spec("ray") is None:
        yield 'cluster=ray needs Ray: pip install "sgid[cluster]", or take cluster=none'
    if (asked.address or "").startswith("ray:"):
        yield f"cluster.address={asked.address}: run it on a node of the cluster, with auto"
    if asked.gpus is not None and asked.gpus > 1 and asked.gpus % 1:
        yield f"cluster.gpus={asked.gpus}: must be a whole number, or a share of one GPU"
    if asked.max_workers is not None and asked.max_workers < asked.min_workers:
        yield f"cluster.max_workers={asked.max_workers}: below cluster.min_workers"
