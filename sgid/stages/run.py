"""A run before its first stage: what it is made of, where its result lies, and if it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.config.schema import Config, Stage, in_slot
from sgid.data.dataset import Dataset
from sgid.models.loader import Loaded, Models
from sgid.reproducibility import fingerprint
from sgid.stages.augment import Augmentation, augmentations
from sgid.stages.data import load
from sgid.stages.preflight import Prepared, preflight
from sgid.stages.store_evaluation import StoreEvaluation
from sgid.store.integrity import invalidate_corrupt_shards
from sgid.training.distributed import check_devices

if TYPE_CHECKING:
    from sgid.stages.train import Training


CODE = 4
"""Raised when the code changes what the same config gives, so that old results are not reused."""


@dataclass(frozen=True)
class Run:
    """What the stages need, made once."""

    config: Config
    choices: dict[str, Any]
    overrides: list[str]
    ready: Prepared
    dataset: Dataset
    models: Models
    augmentations: list[Augmentation]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> dict[str, Any]:
        """What determines the result of this run."""
        config, data = self.config, self.dataset
        backbone = self.ready.weights.get("backbone")
        return {
            "kind": "run",
            "code": CODE,
            "noun": data.nouns,  # zero-shot heads are made of phrases
            "images": [part.digest() for part in (data.train, data.validation, data.test)],
            "generated": [one.generated.folder.name for one in self.augmentations],
            "scorer": self.models.identity("scorer") if self.augmentations else None,
            "filter": config.filter if self.augmentations else None,
            "mix": asdict(config.mix) if self.augmentations else None,
            "base": in_slot(config, "base"),
            # In their order: it decides what comes of them.
            "online": list(in_slot(config, "online").items()),
            "batch": list(in_slot(config, "batch").items()),
            "backbone": {**asdict(config.backbone), "weights": backbone and backbone.identity},
            "precision": config.trainer.precision,
            # Others round and draw otherwise.
            **({"devices": config.trainer.devices} if config.trainer.devices > 1 else {}),
            "compile": config.trainer.compile,
            "validations": config.trainer.validations,
            "seed": config.seed,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The config as JSON can say it, with what weights and images are, not only where."""
        settings = {**asdict(self.config), "stage": self.config.stage.value}
        # Neither part hangs on the seed.
        parts = [self.dataset.validation.digest(), self.dataset.test.digest()]
        settings["dataset"]["images"] = fingerprint(parts)
        for name, located in self.ready.weights.items():
            at = settings
            for key in name.split("."):
                at = at[key]
            at["weights"] = located.identity
        return settings

    def judgement(self, augmentation: Augmentation) -> StoreEvaluation:
        return StoreEvaluation(augmentation.generated, self.config, self.dataset, self.models)

    @cached_property
    def folder(self) -> Path:
        return Path(self.config.paths.results) / fingerprint(self.spec)

    @property
    def finished(self) -> bool:
        """Whether it was trained and tested."""
        return (self.folder / "result.json").is_file()

    @property
    def stored(self) -> bool:
        """Whether all images that it generates are there."""
        return all(one.complete for one in self.augmentations)

    @property
    def measured(self) -> bool:
        """Whether a finished run has a report, with all that is to be measured of its images.

        Images that are gone are not made again for it.
        """
        if not (self.folder / "report.html").is_file():
            return False
        if not self.stored:
            return True
        result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        return all(
            self.judgement(one).measured(summary)
            for summary, one in zip(result["generated"], self.augmentations, strict=True)
        )

    def training(self) -> Training:
        """The classifier and its data.

        Raises:
            ValueError: if images that it is to be trained on are not there.
        """
        from sgid.stages import train
        from sgid.store.tables import stored_images

        generated = []
        for one in self.augmentations:
            lost = invalidate_corrupt_shards(one.generated, everything=self.config.store.verify)
            if not one.complete:
                why = f"; damaged: {', '.join(lost)}" if lost else ""
                raise ValueError(
                    f"the images of aug={one.recipe.method} are not all there "
                    f"({one.generated.folder}{why}); run stage=augment, or stage=all"
                )
            images = stored_images(one.generated, self.dataset.class_names)
            kept = self.judgement(one).kept()
            generated.append(images if kept is None else images.select(kept.nonzero()[0].tolist()))
        weights = self.ready.weights.get("backbone")
        return train.prepare(self.config, self.dataset, generated, weights, self.folder)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The seconds of the block are those of the stage."""
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started


def prepare(
    config: Config,
    choices: dict[str, Any],
    overrides: list[str],
    *,
    loaded: Loaded | None = None,
) -> Run:
    """Look up all that a run needs; nothing is computed.

    Raises:
        ValueError, FileNotFoundError: for what the user can mend.
    """
    ready = preflight(config)
    dataset = load(config, ready)
    models = Models(config, ready.weights, loaded)
    # To look at images, or to measure those that are given, nothing is generated.
    bare = config.stage is Stage.data or config.evaluation.images is not None
    if not bare:
        devices, count = config.trainer.devices, len(dataset.validation)
        check_devices(models.device, devices, scored=count)
    chosen = [] if bare else augmentations(config, dataset, models)
    return Run(config, choices, overrides, ready, dataset, models, chosen)
