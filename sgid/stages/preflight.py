"""Everything that can be wrong is looked for before any work is begun, and told in one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from rich.console import Console
from rich.markup import escape

from sgid.config.schema import Config, Stage, WeightsConfig, in_slot
from sgid.config.targets import identity, refuse
from sgid.data import dataset as datasets
from sgid.data.dataset import SplitProtocol
from sgid.data.listing import Splits
from sgid.evaluation.lpips import lacks_weights
from sgid.methods.guidance import follows_similarity
from sgid.methods.method import make_method
from sgid.models.weights import Weights, locate
from sgid.reporting.wandb import unready
from sgid.reproducibility import derive_seed
from sgid.runtime.device import pick_device
from sgid.stages.validation import invalid_options
from sgid.training.distributed import check_devices


@dataclass(frozen=True)
class Prepared:
    """What was found: the images listed, and where the weights of each model lie."""

    splits: Splits
    protocol: SplitProtocol
    weights: dict[str, Weights]


def preflight(config: Config) -> Prepared:
    """What the run will need, found.

    Raises:
        ValueError: naming each value that is out of range, or that this machine cannot serve, and
            all code that it names and that is not to be called.
        FileNotFoundError: naming all images and weights that are missing.
    """
    refuse(asdict(config), config.allow_targets)  # before any of it is called
    if wrong := invalid_options(config):
        raise ValueError("\n".join(wrong))
    problems: list[str] = []

    def attempt(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except FileNotFoundError as error:
            problems.append(str(error))
        except InstantiationException as error:  # how Hydra hands on what a source raises
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            problems.append(str(error.__cause__))

    splits = attempt(lambda: instantiate(config.dataset.source))
    wanted = {} if config.stage is Stage.data else _wanted(config)
    weights = {name: attempt(lambda name=name: _locate(name, wanted[name])) for name in wanted}
    if "models.generator" in wanted and (tiny := config.models.generator.tiny_vae):
        attempt(lambda: _tiny_vae(Path(tiny).expanduser()))
    if why := unready(config.logger):
        problems.append(why)
    if config.evaluation.lpips is True and (lacking := lacks_weights()):
        problems.append(f"evaluation.lpips=true: {lacking}; evaluation.lpips=auto does without")
    if problems:
        count = f"{len(problems)} things are" if len(problems) > 1 else "One thing is"
        raise FileNotFoundError(f"{count} missing:\n\n" + "\n\n".join(problems))
    given = {one.name: getattr(config.dataset, one.name) for one in fields(SplitProtocol)}
    protocol = SplitProtocol(**given)
    datasets.check_splits(splits, protocol)
    if config.stage is not Stage.data:
        # Last, since it imports PyTorch.
        check_devices(pick_device(config.trainer.device), config.trainer.devices)
    return Prepared(splits, protocol, weights)


def warn(config: Config, console: Console) -> None:
    """Say what can be done, but does not mean what it seems to."""
    models, data = config.models, escape(config.dataset.name)
    chosen = in_slot(config.aug, "offline")
    if chosen and models.knows and config.dataset.name not in models.known:
        console.print(
            f"[yellow]models={models.name} knows {models.knows} and nothing else: "
            f"its captions and images of {data} will be nonsense.[/yellow]"
        )
    if config.dataset.name in models.seen:
        console.print(
            f"[yellow]models={models.name} and the bundled backbones were trained on images of "
            f"{data}: a gain by them is no evidence.[/yellow]"
        )
    followers = [
        name
        for name, entry in chosen.items()
        if entry["guidance"] == config.guidance and name != "fixed_guidance"
    ]
    if followers and not follows_similarity(instantiate(config.guidance)):
        console.print(
            f"[yellow]guidance is the same for every image: {', '.join(followers)} does not follow "
            "the similarity of captions.[/yellow]"
        )


def rehearse_classifier(config: Config, ready: Prepared) -> None:
    """Make the classifier and its transforms once, for nothing, before hours of generation.

    Raises:
        ValueError: naming what cannot be made with the arguments that it has.
    """
    made: dict[str, Callable[[], Any]] = {
        f"aug.{name}.transform": lambda entry=entry: instantiate(entry["transform"])
        for slot in ("online", "batch")
        for name, entry in in_slot(config.aug, slot).items()
    }
    for name, entry in in_slot(config.aug, "base").items():
        made[f"aug.{name}.transform"] = lambda entry=entry: instantiate(entry["transform"])(32)
    backbone, weights = config.backbone, ready.weights.get("backbone")
    folder = weights and weights.folder

    def classifier() -> None:
        from sgid.training.backbones import make_optimizer, own_size

        make = instantiate(backbone.model)
        size = backbone.image_size or own_size(make, folder) or 32
        seed = derive_seed(config.seed, "weights")
        network = make(class_names=("one", "two"), image_size=size, weights=folder, seed=seed)
        optimizer = instantiate(backbone.optimizer)
        make_optimizer(network, optimizer, layer_decay=backbone.layer_decay)

    for option, make in {**made, "backbone": classifier}.items():
        try:
            make()
        except Exception as error:  # any library's, of any kind
            hydras = isinstance(error, InstantiationException)
            raise ValueError(f"{option}: {hydras and error.__cause__ or error}") from error


def _wanted(config: Config) -> dict[str, WeightsConfig]:
    """Config key -> weights, of the models that this run uses."""
    wanted = {}
    if config.evaluation.images is not None:
        return {"models.scorer": config.models.scorer.weights}
    if chosen := list(in_slot(config.aug, "offline").values()):
        models = config.models
        wanted["models.generator"] = models.generator.weights
        wanted["models.scorer"] = models.scorer.weights
        if any(needs_captions(entry) for entry in chosen):
            wanted["models.captioner"] = models.captioner.weights
    if config.backbone.weights is not None:
        wanted["backbone"] = config.backbone.weights
    return wanted


def needs_captions(entry: dict[str, Any]) -> bool:
    """Whether a method, an entry of `conf/aug/`, uses captions."""
    return make_method("", entry, instantiate, identity).needs_captions


def _tiny_vae(folder: Path) -> None:
    needed = ("config.json", "diffusion_pytorch_model.safetensors")
    if lacking := [name for name in needed if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"models.generator.tiny_vae={folder}: {' and '.join(lacking)} of an AutoencoderTiny "
            "should be in that folder; models.generator.tiny_vae=null does without"
        )


def _locate(name: str, weights: WeightsConfig) -> Weights:
    return locate(**asdict(weights), option=f"{name}.weights")
