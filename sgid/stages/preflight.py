"""Checks of everything that can be wrong, before any work and with one message for all of it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from rich.console import Console

from sgid.config.help import typed_flags
from sgid.config.schema import Config, Stage, WeightsConfig, in_slot
from sgid.config.targets import identity, refuse
from sgid.data import dataset as datasets
from sgid.data.dataset import SplitProtocol
from sgid.data.image_set import ImageSet
from sgid.data.listing import Splits
from sgid.data.sources.download import MissingImages
from sgid.evaluation.lpips import lacks_weights
from sgid.generation.stable_diffusion import StableDiffusionEngine
from sgid.methods.guidance import follows_similarity
from sgid.methods.method import make_method
from sgid.methods.strength import extremes
from sgid.models.conditioning import (
    check_controlnet,
    check_ip_adapter,
    find_controlnet,
    find_image_encoder,
    find_ip_adapter,
    is_editor,
    lacking,
)
from sgid.models.lora import LORA, check_lora, find_lora
from sgid.models.scope import limits
from sgid.models.weights import MissingWeights, Weights, locate
from sgid.reporting.wandb import unready
from sgid.reproducibility import derive_seed
from sgid.runtime.batching import out_of_memory
from sgid.runtime.device import pick_device, pick_dtype
from sgid.runtime.terminal import program
from sgid.stages.fetch import Need
from sgid.stages.method_validation import PREDICTED
from sgid.stages.validation import invalid_options
from sgid.training.distributed import check_devices

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The images, listed, and the places of the weights of each model."""

    splits: Splits
    protocol: SplitProtocol
    weights: dict[str, Weights]


def preflight(config: Config, overrides: Sequence[str] = ()) -> Prepared:
    """Look up what the run will need. `overrides` are the options as they were given.

    Raises:
        ValueError: naming each value that is out of range, or that this machine cannot serve, and
            all code that it names and that is not to be called.
        FileNotFoundError: naming all images and weights that are missing, and the command that
            fetches them.
    """
    check_options(config)
    splits, weights = look_up(config, overrides)
    given = {one.name: getattr(config.dataset, one.name) for one in fields(SplitProtocol)}
    protocol = SplitProtocol(**given)
    datasets.check_splits(splits, protocol)
    if config.stage is not Stage.data:
        # Last, since it imports PyTorch.
        device = pick_device(config.trainer.device)
        check_devices(device, config.trainer.devices)
        if device.type == "cpu" and config.trainer.precision.startswith("16-"):
            raise ValueError(
                f"trainer.precision={config.trainer.precision}: a CPU does not train in float16; "
                "take 32-true, bf16-mixed, or auto"
            )
    return Prepared(splits, protocol, weights)


def check_options(config: Config) -> None:
    """Compare each value with what it may be.

    Raises:
        ValueError: naming each that cannot be, and all code that is not to be called.
    """
    refuse(asdict(config), config.allow_targets)  # before any of it is called
    if wrong := invalid_options(config):
        raise ValueError("\n".join(wrong))


def look_up(config: Config, overrides: Sequence[str] = ()) -> tuple[Splits, dict[str, Weights]]:
    """List the images, and find the weights of each model that the run uses.

    Raises:
        FileNotFoundError: naming all that are missing, and the command that fetches them.
    """
    problems: list[str] = []
    fetchable = False

    def attempt(action: Callable[[], Any]) -> Any:
        nonlocal fetchable
        try:
            return action()
        except FileNotFoundError as error:
            problems.append(str(error))
            fetchable |= can_be_fetched(error)

    splits = attempt(lambda: list_images(config))
    wanted = {} if config.stage is Stage.data else _wanted(config)
    weights = {name: attempt(lambda name=name: _locate(name, wanted[name])) for name in wanted}
    if "models.generator" in wanted and (tiny := config.models.generator.tiny_vae):
        attempt(lambda: _tiny_vae(Path(tiny).expanduser()))
    for one in config.models.generator.lora if "models.generator" in wanted else ():
        attempt(lambda one=one: find_lora(one.path, LORA))
    if "models.generator" in wanted:
        attempt(lambda: _locate_conditions(config))
    if why := unready(config.logger):
        problems.append(why)
    if config.evaluation.lpips is True and (lacking := lacks_weights()):
        problems.append(f"evaluation.lpips=true: {lacking}; evaluation.lpips=auto does without")
    if problems:
        count = f"{len(problems)} things are" if len(problems) > 1 else "One thing is"
        if fetchable:
            command = typed_command("stage=fetch", overrides)
            problems.append(
                f"Nothing is fetched unasked. To fetch it, with sizes first:\n  {command}"
            )
        raise FileNotFoundError(f"{count} missing:\n\n" + "\n\n".join(problems))
    if weights.get("models.generator") is not None:
        _check_edits(config, weights["models.generator"].folder)
    return splits, weights


def can_be_fetched(error: FileNotFoundError) -> bool:
    """Whether `stage=fetch` can fetch what is missing."""
    if isinstance(error, MissingWeights):
        return error.fetchable
    return isinstance(error, MissingImages) and bool(error.size or error.hub)


def typed_command(stage: str, overrides: Sequence[str]) -> str:
    """The command line of a run with another stage, config folders of one's own included."""
    options = [one for one in overrides if not one.startswith("stage=")]
    return shlex.join([*program().split(), *typed_flags(), *([stage] if stage else []), *options])


def needs(config: Config) -> list[Need]:
    """The weights that the run uses, and how `stage=fetch` looks for them."""
    return [
        Need(
            name, weights.layout, weights.id, weights.revision,
            partial(_locate, name, weights), half=_in_float16(config, name),
            configs_alone=weights.path is not None,
        )
        for name, weights in _wanted(config).items()
    ]  # fmt: skip


def _in_float16(config: Config, name: str) -> bool:
    """Whether a model will be computed with in float16, so that the float16 variant is enough.

    On a machine without a GPU `trainer.device=cuda` says that the run will be on another one.
    """
    if name not in ("models.generator", "models.captioner"):
        return False  # scores are computed in the widest format, and backbones are trained
    import torch

    dtype = config.models.generator.dtype if "gen" in name else config.models.captioner.dtype
    device = config.trainer.device
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return dtype == "float16" or (dtype == "auto" and gpu)


def list_images(config: Config, download: bool = False) -> Splits:
    """The splits of the run's images; with `download` they are fetched if they are not there.

    Raises:
        FileNotFoundError: if they are missing, or cannot be fetched.
    """
    source = dict(config.dataset.source)
    if "download" in source:
        source["download"] = download
    return _listed(source)


def warn(config: Config, console: Console, *, overrides: Sequence[str] = ()) -> None:
    """Warn of what can be done, but does not mean what it seems to.

    `overrides` are the options that were typed.
    """
    models, chosen = config.models, in_slot(config.aug, "offline")
    typed = {word.lstrip("+").partition("=")[0] for word in overrides}
    for option, apart, own in (
        ("noise_rate", "strength", lambda given: given != config.noise_rate),
        ("mix.how", "use", bool),
        ("mix.probability", "use", bool),
    ):
        # Of what is drawn from noise alone nobody expects a noise rate.
        drawn = {k: v for k, v in chosen.items() if apart != "strength" or v["from_image"]}
        others = [name for name, entry in drawn.items() if own(entry.get(apart))]
        if option in typed and others:
            console.print(
                f"[yellow]{option} changes nothing about {', '.join(others)}: "
                f"aug.{others[0]}.{apart} has a value of its own.[/yellow]"
            )
    for line in limits(asdict(models), config.dataset.name, generates=bool(chosen)):
        console.print(line, style="yellow", highlight=False, markup=False)
    for name, entry in chosen.items():
        strengths = entry["strength"] if entry["from_image"] else 1.0
        named = [] if isinstance(strengths, dict) else extremes(strengths)
        for given in named:  # of a range or a rule, hardly any runs a whole number of steps
            run = int(config.steps * given)
            if abs(run - config.steps * given) > 1e-6:
                console.print(
                    f"[yellow]{name}: of steps={config.steps}, noise_rate={given:g} runs {run}, as "
                    f"noise_rate={run / config.steps:g} does.[/yellow]"
                )
        scale = entry["guidance"].get("scale")
        if isinstance(scale, int | float) and scale < 1:
            console.print(
                f"[yellow]{name}: a guidance scale of {scale:g} is no guidance, as 1 is.[/yellow]"
            )
    if steered := [name for name, entry in chosen.items() if entry.get("on_latents")]:
        number = pick_dtype(models.generator.dtype, pick_device(config.trainer.device))
        if str(number) == "torch.float16":
            console.print(
                f"[yellow]{', '.join(steered)}: follows gradients through the generator, which are "
                "lost where float16 is too narrow. models.generator.dtype=float32 takes them as "
                "its authors do, bfloat16 with half the memory.[/yellow]"
            )
    unasked = chosen and models.name != "tiny" and config.trainer.device == "auto"
    if unasked and pick_device("auto").type == "cpu":
        console.print(
            f"[yellow]PyTorch sees no GPU: models={models.name} draws on the CPU, which takes "
            "hours for what a GPU does in minutes. Look at nvidia-smi, CUDA_VISIBLE_DEVICES and "
            "the build of torch; trainer.device=cuda insists on one.[/yellow]"
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


def rehearse_classifier(config: Config, ready: Prepared, images: ImageSet) -> None:
    """Make the classifier and its transforms once, and learn from one batch of noise, before hours
    of generation.

    `images` are those to train on: they say how many classes there are, and may say the size.

    Raises:
        ValueError: naming what cannot be made with the arguments that it has, or cannot learn.
    """
    to_make: dict[str, Callable[[], Any]] = {
        f"aug.{name}.transform": lambda entry=entry: instantiate(entry["transform"])
        for slot in ("online", "batch")
        for name, entry in in_slot(config.aug, slot).items()
    }
    for name, entry in in_slot(config.aug, "base").items():
        to_make[f"aug.{name}.transform"] = lambda entry=entry: instantiate(entry["transform"])(32)
    to_make["backbone"] = partial(_learn_once, config, ready.weights.get("backbone"), images)
    for option, make in to_make.items():
        try:
            make()
        except Exception as error:  # any library's, of any kind
            if out_of_memory(error):
                raise
            hydras = isinstance(error, InstantiationException)
            raise ValueError(f"{option}: {hydras and error.__cause__ or error}") from error


def _learn_once(config: Config, weights: Weights | None, images: ImageSet) -> None:
    """One forward and backward pass of a batch of the run's own size, on its own device."""
    import torch

    from sgid.training.backbones import image_size, make_optimizer

    backbone, precision = config.backbone, config.trainer.precision
    make, classes = instantiate(backbone.model), images.class_names
    folder, seed = weights and weights.folder, derive_seed(config.seed, "weights")
    size = backbone.image_size or image_size(make, folder, images)
    network = make(class_names=classes, image_size=size, weights=folder, seed=seed)
    make_optimizer(network, instantiate(backbone.optimizer), layer_decay=backbone.layer_decay)

    device = pick_device(config.trainer.device)
    whole = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision == "auto" and device.type == "cuda":
        precision = "bf16-mixed"
    dtype = whole.get(precision, torch.float32)
    count = backbone.batch_size // config.trainer.devices
    network.to(device, dtype).train()
    try:
        with (
            torch.random.fork_rng(),
            torch.autocast(device.type, mixed.get(precision), enabled=precision in mixed),
        ):
            pixels = torch.randn(count, 3, size, size, device=device, dtype=dtype)
            labels = torch.arange(count, device=device) % len(classes)
            torch.nn.functional.cross_entropy(network(pixels), labels).backward()
    except Exception as error:  # any network's, of any kind
        if out_of_memory(error):
            raise
        raise ValueError(
            f"it cannot learn from {count} images of {size}x{size} px ({error}); change "
            f"backbone.batch_size (now {backbone.batch_size}), backbone.image_size (now "
            f"{backbone.image_size}, which is {size}), or the backbone"
        ) from error


def check_models(config: Config, ready: Prepared) -> None:
    """Compare the weights of captioner, scorer and generator with what the models are made of, and
    take the scheduler's steps once; weights that were found sound before are not read again.

    Raises:
        ValueError: if weights do not fit, or the scheduler cannot take these steps.
    """
    from sgid.models.diffusers import check_scheduler
    from sgid.models.tensors import check_once

    remembered = Path(config.paths.artifacts) / "checked_weights.json"
    for name, weights in ready.weights.items():
        if name.startswith("models."):
            _say_variant(config, name, weights)
            check_once(
                weights, weights.identity["layout"], f"{name}.weights", remembered=remembered
            )
    chosen = list(in_slot(config.aug, "offline").values())
    if (weights := ready.weights.get("models.generator")) is not None:
        folder, scheduler = weights.folder, config.models.generator
        for one in scheduler.lora:
            check_lora(find_lora(one.path, LORA), folder, LORA, weights.file)
        if scheduler.ip_adapter:
            file, encoder = find_ip_adapter(scheduler.ip_adapter), find_image_encoder(scheduler)
            check_ip_adapter(file, encoder, folder)
        if scheduler.controlnet:
            check_controlnet(find_controlnet(scheduler.controlnet), folder)
        strengths = {1.0 for entry in chosen if not entry["from_image"]}
        for given in (entry["strength"] for entry in chosen if entry["from_image"]):
            strengths |= set(extremes(given))
        check_scheduler(
            folder,
            scheduler=scheduler.scheduler,
            steps=config.steps,
            strengths=sorted(strengths),
            predicts=[
                name
                for name, entry in in_slot(config.aug, "offline").items()
                if (entry.get("on_latents") or {}).get("_target_") in PREDICTED
            ],
        )


def _say_variant(config: Config, name: str, weights: Weights) -> None:
    """Tell that weights are there in a variant alone, and what becomes of it."""
    if (variant := weights.identity.get("variant")) is None:
        return
    dtype = getattr(config.models, name.removeprefix("models.")).dtype
    number = str(pick_dtype(dtype, pick_device(config.trainer.device))).removeprefix("torch.")
    wider = f", which adds no precision, computed in {number}" if number != "float16" else ""
    log.info("%s.weights: the %s variant is read%s (%s)", name, variant, wider, weights.folder)


def _wanted(config: Config) -> dict[str, WeightsConfig]:
    """Config key -> weights, of the models that this run uses."""
    wanted = {}
    if config.stage is Stage.check:
        return {"models.generator": config.models.generator.weights}
    if config.stage is Stage.export and not config.filter:
        return wanted
    if config.evaluation.images is not None or config.store.path is not None:
        return {"models.scorer": config.models.scorer.weights}
    if chosen := list(in_slot(config.aug, "offline").values()):
        models = config.models
        wanted["models.generator"] = models.generator.weights
        wanted["models.scorer"] = models.scorer.weights
        written = config.dataset.captions != "own"  # else people wrote them all
        if written and any(needs_captions(entry) for entry in chosen):
            wanted["models.captioner"] = models.captioner.weights
    if config.backbone.weights is not None and config.stage is not Stage.review:
        wanted["backbone"] = config.backbone.weights
    return wanted


def _listed(source: dict[str, Any]) -> Splits:
    """The splits that a source lists; options that are null are left out.

    A source of one's own that builds on `dataset=folder` need not take the options of that one.
    """
    given = {key: value for key, value in source.items() if value is not None or key == "root"}
    try:
        return instantiate(given)
    except InstantiationException as error:  # how Hydra hands on what a source raises
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from error
        raise


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


CONDITIONS = {"image_prompt": "ip_adapter", "edges": "controlnet"}
"""Parts of methods, and the generator's further model that each needs."""


def _locate_conditions(config: Config) -> None:
    """Look up the further models that methods need, and all that are given.

    Raises:
        MissingWeights: naming the model, and the option that gives it.
    """
    generator, name = config.models.generator, config.models.name
    for method, entry in in_slot(config.aug, "offline").items():
        for part, needed in CONDITIONS.items():
            if entry.get(part) and not getattr(generator, needed):
                raise MissingWeights(lacking(needed, method, name))
    if generator.ip_adapter:
        find_ip_adapter(generator.ip_adapter)
        find_image_encoder(generator)
    if generator.controlnet:
        find_controlnet(generator.controlnet)


def _check_edits(config: Config, folder: Path) -> None:
    """Compare methods that edit images with the generator.

    Raises:
        ValueError: if one edits and the other does not.
    """
    edits = is_editor(folder)
    own = config.models.generator._target_.endswith(f".{StableDiffusionEngine.__name__}")
    for name, entry in in_slot(config.aug, "offline").items():
        if entry.get("image_guidance") is not None and not edits and own:
            raise ValueError(
                f"aug={name} edits images by an instruction, and models={config.models.name} is no "
                "InstructPix2Pix; take models=instruct_pix2pix, or models.generator.weights.path="
                "FOLDER of another"
            )
        if entry.get("image_guidance") is None and edits and own:
            raise ValueError(
                f"models={config.models.name} edits images by an instruction, and aug={name} gives "
                f"none: take aug=alia_edit, or a method with image_guidance, or another model"
            )


def _locate(name: str, weights: WeightsConfig) -> Weights:
    return locate(**asdict(weights), option=f"{name}.weights")
