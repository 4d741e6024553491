"""A run: the config turned into plain objects, once, and the place of its result.

The config ends here: stages are handed datasets, models, methods and settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from sgid.config.schema import ClusterConfig, Config, Stage, in_slot
from sgid.config.targets import identity, with_short_names
from sgid.data.dataset import Dataset
from sgid.evaluation.evaluator import Evaluator
from sgid.evaluation.lpips import weights_file
from sgid.methods.method import Method, make_method
from sgid.models.conditioning import OPTIONS
from sgid.models.loader import Loaded, Models
from sgid.records import Use
from sgid.reporting.format import call_text
from sgid.reproducibility import CODE, fingerprint
from sgid.runtime.device import pick_device
from sgid.runtime.files import absolute
from sgid.stages.augment import Augmentation, GenerationSettings
from sgid.stages.data import load
from sgid.stages.estimate import RATES, Rate
from sgid.stages.fetch import fetch as fetch_missing
from sgid.stages.preflight import (
    Prepared,
    check_options,
    list_images,
    look_up,
    needs,
    preflight,
    typed_command,
)
from sgid.stages.reference_classifier import find_reference_classifier
from sgid.stages.store_evaluation import Filter, StoreEvaluation
from sgid.store.integrity import invalidate_corrupt_shards
from sgid.store.reviews import REVIEWS, read_reviews, rejected
from sgid.store.store import Store
from sgid.training.distributed import check_devices

if TYPE_CHECKING:
    from rich.console import Console

    from sgid.stages.train import Training

CHECKPOINTS = "checkpoints"
"""The folder in a run's own, of its checkpoints."""

OWN = "cluster"
"""A node's own folder in `paths.artifacts`, where shards travel by `cluster.storage`."""


@dataclass(frozen=True)
class Run:
    """A run, with all that its stages need, each made once."""

    config: Config
    choices: dict[str, Any]
    overrides: list[str]
    ready: Prepared
    dataset: Dataset
    models: Models
    augmentations: list[Augmentation]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        return self.config.stage

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def logger(self) -> dict[str, Any]:
        return self.config.logger

    @property
    def cluster(self) -> ClusterConfig:
        return self.config.cluster

    @property
    def artifacts(self) -> Path:
        return Path(self.config.paths.artifacts)

    @property
    def results(self) -> Path:
        return Path(self.config.paths.results)

    @property
    def spec(self) -> dict[str, Any]:
        """All that determines the result of this run."""
        config, data = self.config, self.dataset
        backbone = self.ready.weights.get("backbone")
        spec = {
            "kind": "run",
            "code": CODE,
            "noun": data.nouns,  # zero-shot heads are made of phrases
            "images": [part.digest() for part in (data.train, data.validation, data.test)],
            "generated": [one.generated.folder.name for one in self.augmentations],
            "base": in_slot(config.aug, "base"),
            # In their order: it decides what comes of them.
            "online": list(in_slot(config.aug, "online").items()),
            "batch": list(in_slot(config.aug, "batch").items()),
            "backbone": {**asdict(config.backbone), "weights": backbone and backbone.identity},
            "precision": config.trainer.precision,
            "compile": config.trainer.compile,
            "validations": config.trainer.validations,
            "seed": config.seed,
        }
        if self.augmentations:
            uses = [one.method.use or self._mix for one in self.augmentations]
            spec["use"] = [use.spec for use in uses]
            spec["scorer"] = self.models.identity("scorer")
            spec["filter"] = config.filter
            if self.filter and self.filter.reads_reviews:
                spec["rejected"] = [fingerprint(images) for images in self.rejected]
        if config.trainer.devices > 1:  # others round and draw otherwise
            spec["devices"] = config.trainer.devices
        return identity(spec)

    @property
    def settings(self) -> dict[str, Any]:
        """The config as JSON can say it, with the identity of weights and images."""
        settings = {**asdict(self.config), "stage": self.config.stage.value}
        settings["dataset"]["images"] = self.dataset.fingerprint
        for name, weights in self.ready.weights.items():
            at = settings
            for key in name.split("."):
                at = at[key]
            at["weights"] = weights.identity
        return with_short_names(settings)

    @cached_property
    def evaluator(self) -> Evaluator:
        """The metrics of generated images that the section `evaluation` asks for.

        Raises:
            ValueError: if its classifier cannot judge these classes.
        """
        asked, allowed = self.config.evaluation, self.config.allow_targets
        classifier = None
        if asked.classifier:
            classifier = find_reference_classifier(
                asked.classifier, self.dataset, self.models.device, allowed
            )
        # `auto` is where the weights of LPIPS are.
        lpips = weights_file().is_file() if asked.lpips == "auto" else bool(asked.lpips)
        return Evaluator(self.dataset, self.models, self.artifacts, classifier, lpips)

    @cached_property
    def filter(self) -> Filter | None:
        """The filter of generated images that the run trains with."""
        node = self.config.filter
        return Filter(instantiate(node), call_text(node)) if node else None

    @cached_property
    def rejected(self) -> list[list[tuple[str, int]]]:
        """The images of each augmentation, by key and repeat, that people have rejected by now;
        none where the filter does not ask.

        They are read once: what is rejected during a run counts for the next one.

        Raises:
            ValueError: if nobody has reviewed the images of an augmentation that is trained on.
        """
        if self.filter is None or not self.filter.reads_reviews:
            return [[] for _ in self.augmentations]
        drawn_alone = self.stage in (Stage.review, Stage.concepts, Stage.augment)
        for one in self.augmentations:
            folder = one.generated.folder
            if not drawn_alone and not (folder / REVIEWS).is_file():
                raise ValueError(
                    f"filter={self.filter.text}: nobody has reviewed the images of "
                    f"aug={one.method.name} ({folder}). Run stage=augment and then stage=review "
                    f"store={folder} with the options of this run, or take filter=none"
                )
        folders = [one.generated.folder for one in self.augmentations]
        return [rejected(read_reviews(folder)) for folder in folders]

    @cached_property
    def store_evaluations(self) -> list[StoreEvaluation]:
        """The evaluation of each augmentation's images, in their order."""
        pairs = zip(self.augmentations, self.rejected, strict=True)
        return [self.store_evaluation(one.generated, images) for one, images in pairs]

    def store_evaluation(
        self, store: Store, rejected: Collection[tuple[str, int]] = ()
    ) -> StoreEvaluation:
        """The evaluation of a complete store that was made of the run's training images."""
        return StoreEvaluation(
            store, self.dataset, self.models, self.artifacts, self.filter, self.evaluator, rejected
        )

    @cached_property
    def folder(self) -> Path:
        return self.results / fingerprint(self.spec)

    @property
    def finished(self) -> bool:
        """Whether it was trained and tested."""
        return (self.folder / "result.json").is_file()

    @property
    def validation_top1(self) -> float | None:
        """In percent, of the best checkpoint of a training that has ended, else `None`."""
        from sgid.stages.train import trained

        if self.finished:
            result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
            return result["metrics"]["validation/top1"]
        metrics = trained(self.folder / CHECKPOINTS)
        return None if metrics is None else metrics["validation/top1"]

    @property
    def training_rate(self) -> Rate:
        """Of an optimizer step of its classifier."""
        config = self.config
        work = {
            "train": {**asdict(config.backbone), "steps": None, "epochs": None},
            "dataset": config.dataset.name,
            "trainer": [config.trainer.precision, config.trainer.devices, config.trainer.compile],
        }
        return Rate(self.artifacts / RATES, identity(work), self.models.device)

    def costs(self) -> tuple[float | None, float | None]:
        """Seconds that its images and its training take from nothing, as measured here before;
        `None` where nothing was.
        """
        from sgid.training.trainer import schedule

        config, backbone = self.config, self.config.backbone
        steps = schedule(
            steps=backbone.steps,
            epochs=backbone.epochs,
            originals=len(self.dataset.train),
            batch_size=backbone.batch_size,
            validations=config.trainer.validations,
        ).steps
        each = self.training_rate.read()
        images = [one.seconds() for one in self.augmentations]
        known = [seconds for seconds in images if seconds is not None]
        return (
            sum(known) if len(known) == len(images) else None,
            None if each is None else steps * each,
        )

    @property
    def stored(self) -> bool:
        """Whether all images that it generates are there."""
        return all(one.complete for one in self.augmentations)

    @property
    def evaluated(self) -> bool:
        """Whether a finished run has a report, with all metrics of its images that are asked for.

        Images that are gone are not made again for it.
        """
        if not (self.folder / "report.html").is_file():
            return False
        if not self.stored:
            return True
        result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        pairs = zip(result["generated"], self.store_evaluations, strict=True)
        return all(evaluation.measured(summary) for summary, evaluation in pairs)

    def training(self) -> Training:
        """The classifier and its data.

        Raises:
            ValueError: if images that it is to be trained on are not there.
        """
        from sgid.stages.train import TrainingSettings, prepare
        from sgid.store.tables import stored_images

        config, generated = self.config, []
        for one, evaluation in zip(self.augmentations, self.store_evaluations, strict=True):
            lost = invalidate_corrupt_shards(one.generated, everything=config.store.verify)
            if not one.complete:
                why = f"; damaged: {', '.join(lost)}" if lost else ""
                raise ValueError(
                    f"the images of aug={one.method.name} are not all there "
                    f"({one.generated.folder}{why}); run stage=augment, or stage=all"
                )
            images = stored_images(one.generated, self.dataset.class_names)
            kept = evaluation.kept()
            chosen = images if kept is None else images.select(kept.nonzero()[0].tolist())
            generated.append((chosen, one.method.use))
        settings = TrainingSettings(
            backbone=config.backbone,
            make_network=instantiate(config.backbone.model),
            optimizer=instantiate(config.backbone.optimizer),
            transforms={slot: transforms(config.aug, slot) for slot in ("base", "online", "batch")},
            mix=self._mix,
            trainer=config.trainer,
            seed=config.seed,
            decoded=self.artifacts / "decoded",
        )
        weights = self.ready.weights.get("backbone")
        folder = self.folder / CHECKPOINTS
        return prepare(settings, self.dataset, generated, weights, folder)

    @property
    def _mix(self) -> Use:
        mix = self.config.mix
        # The probability means nothing where all images are concatenated.
        return Use(mix.how, mix.probability) if mix.how == "replace" else Use(mix.how)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The seconds of the block are those of the stage."""
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started


def transforms(aug: Mapping[str, Any], slot: str) -> list[Any]:
    """The transforms of the augmentations in a slot: `base`, `online` or `batch`."""
    return [instantiate(entry["transform"]) for entry in in_slot(aug, slot).values()]


def prepare(
    config: Config,
    choices: dict[str, Any],
    overrides: list[str],
    *,
    loaded: Loaded | None = None,
) -> Run:
    """Look up all that a run needs; nothing is computed.

    `loaded` are the models of earlier runs in this process, which are taken where they fit.

    Raises:
        ValueError, FileNotFoundError: for what the user can correct.
    """
    ready = preflight(config, overrides)
    artifacts = Path(config.paths.artifacts)
    dataset = load(config.dataset, ready, seed=config.seed, artifacts=artifacts)
    models = Models(
        config.models,
        ready.weights,
        device=pick_device(config.trainer.device),
        steps=config.steps,
        remembered=artifacts / "batch_sizes.json",
        loaded=loaded,
    )
    augmentations = []
    # To look at images, or at those of a store, nothing is generated.
    given = config.evaluation.images or config.store.path
    if config.stage not in (Stage.data, Stage.check) and given is None:
        check_devices(models.device, config.trainer.devices, scored=len(dataset.validation))
        settings = GenerationSettings(
            artifacts=artifacts,
            expansion=config.expansion,
            steps=config.steps,
            seed=config.seed,
            resolution=config.models.generator.resolution,
            size_multiple=config.models.generator.size_multiple,
            shard_size=config.store.shard_size,
            format=config.store.format,
            size=config.store.size,
            verify=config.store.verify,
            strict=config.dataset.strict,
            captions=config.dataset.captions,
        )
        augmentations = [
            Augmentation(method, dataset, models, settings) for method in methods(config.aug)
        ]
    run = Run(config, choices, overrides, ready, dataset, models, augmentations)
    _ = run.rejected  # that nobody has reviewed them is said before any work
    return run


def fetch(config: Config, overrides: Sequence[str], console: Console) -> None:
    """Fetch the images and weights of a run that are missing, and look them all up.

    Raises:
        ValueError, FileNotFoundError: for what the user can correct.
    """
    check_options(config)
    fetch_missing(
        partial(list_images, config), config.dataset.root, needs(config),
        lpips=config.evaluation.lpips is True, console=console,
    )  # fmt: skip
    look_up(config, overrides)
    console.print("[green]All of it is there.[/green] Next:", highlight=False)
    console.print(f"  {typed_command('', overrides)}", highlight=False, markup=False)


def methods(aug: dict[str, Any]) -> list[Method]:
    """The generative methods among augmentations, in the order given."""
    return [
        make_method(name, entry, instantiate, identity)
        for name, entry in in_slot(aug, "offline").items()
    ]


def on_workers(run: Run) -> partial[Run]:
    """Prepare the same run on another machine: without what makes no images, with full paths."""
    config = deepcopy(run.config)
    config.stage, config.logger, config.store.verify = Stage.augment, {}, False
    config.filter = {}  # reviews lie beside the whole store
    config.backbone.weights, config.evaluation.lpips = None, False
    if config.trainer.device.startswith("cuda"):
        config.trainer.device = "cuda"  # Ray shows a worker its own GPUs alone
    paths, cluster, generator = config.paths, config.cluster, config.models.generator
    paths.artifacts, paths.results, paths.data = map(
        absolute, (paths.artifacts, paths.results, paths.data)
    )
    if cluster.storage is not None:
        cluster.storage = absolute(cluster.storage)
        paths.artifacts = str(Path(paths.artifacts) / OWN)
    root, source = config.dataset.root, config.dataset.source
    if root is not None and Path(root).expanduser().exists():  # else the name of a set on the hub
        config.dataset.root = absolute(root)
        for key in [key for key, value in source.items() if value == root]:
            source[key] = absolute(root)
    for model in (config.models.captioner, config.models.scorer, generator):
        if model.weights.path is not None:
            model.weights.path = absolute(model.weights.path)
        if model.weights.config is not None:
            model.weights.config = absolute(model.weights.config)
    for option in ("tiny_vae", *OPTIONS):
        if (place := getattr(generator, option)) is not None:
            setattr(generator, option, absolute(place))
    for one in generator.lora:
        one.path = absolute(one.path)
    return partial(prepare, config, {}, [])
