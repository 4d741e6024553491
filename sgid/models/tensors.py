"""The tensors of a model's files against those that its own class wants, read off the files'
headers: no weights are loaded.

Libraries load what fits and leave the rest as it was drawn at random, with a warning at most.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sgid.models.checkpoint import FIRST, MODELS, Converted, convert, kind_of
from sgid.models.weights import (
    FILES,
    NOT_LOADED,
    Weights,
    read_json,
    read_parts,
    safetensors_header,
    variant_of,
    weight_files,
)
from sgid.reproducibility import fingerprint, versions
from sgid.runtime.files import write_atomic
from sgid.runtime.terminal import quiet

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WRAPPERS = {
    "module.": "torch's DataParallel",
    "_orig_mod.": "torch.compile",
    "_forward_module.": "Lightning's Fabric",
    "base_model.model.": "PEFT, a LoRA",
    "ema_model.": "an average of weights",
    "ema.": "an average of weights",
    "network.": "a training loop",
    "model.": "a training loop, such as Lightning's",
}
"""Prefixes of tensor names, from training loops."""

CAPTIONER = "BlipForConditionalGeneration"

INPAINTING = {9: "inpainting", 8: "editing by instruction (InstructPix2Pix)"}
"""Tasks of UNets that take more channels than their latents have."""


Shapes = Mapping[str, Sequence[int]]
"""The shape of each tensor, by name."""


class Misfit(NamedTuple):
    """Differences between the tensors of files and those of a model, by name."""

    missing: list[str]
    other_shape: list[str]
    unused: list[str]


def check_tensors(folder: Path, layout: str, option: str, checkpoint: Path | None = None) -> None:
    """Compare all parts of a model that are loaded with their files, or with a `checkpoint`: all
    parts in one file.

    `option` is the config key (e.g. `models.scorer.weights`) that the messages name.

    Raises:
        ValueError: naming the part, what is in its files, and what to take.
    """
    pipeline = partial(_pipeline, checkpoint=checkpoint)
    parts = {"blip": _blip, "open_clip": _open_clip, "diffusers": pipeline}
    for part, misfit in parts[layout](folder, option) if layout in parts else ():
        if misfit.missing or misfit.other_shape or (misfit.unused and layout != "blip"):
            raise ValueError(f"{option}: {_described(part, misfit)}. Change {option}")
        if misfit.unused:
            log.warning("%s: not used of %s: %s", option, part, _some(misfit.unused))


def _described(part: Path, misfit: Misfit) -> str:
    missing, shapes, unused = misfit
    lines = [f"the weights in {part} do not fit the model that its config describes"]
    if wrapper := _wrapper(missing, unused):
        return (
            f"{lines[0]}: all names begin with {wrapper!r}, of {WRAPPERS[wrapper]}; save them "
            + (f"without it, as {{name.removeprefix({wrapper!r}): tensor}}")
        )
    for what, names in (
        ("not in the file, so that they would be random", missing),
        ("of another shape", shapes),
        ("in the file, and of no use to the model", unused),
    ):
        if names:
            lines.append(f"{len(names):,} tensors {what} ({_some(names)})")
    return "; ".join(lines)


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def _wrapper(missing: Iterable[str], unused: list[str]) -> str | None:
    """The prefix of `WRAPPERS` with which the unused tensors would be the missing ones."""
    wanted = set(missing)
    for prefix in WRAPPERS:
        bare = {name.removeprefix(prefix) for name in unused if name.startswith(prefix)}
        # Libraries name some tensors of a text encoder with, some without the model's own prefix.
        bare |= {name.partition(".")[2] for name in bare}
        if unused and all(name.startswith(prefix) for name in unused) and len(bare & wanted) > 1:
            return prefix
    return None


def _blip(folder: Path, option: str) -> Iterator[tuple[Path, Misfit]]:
    import transformers

    config = read_json(folder / "config.json") or {}
    kinds = config.get("architectures") or [CAPTIONER]
    if CAPTIONER not in kinds or config.get("model_type", "blip") != "blip":
        raise ValueError(
            f"{option}: {folder} holds a {', '.join(kinds)} ({config.get('model_type')}), which "
            f"writes no captions; take a {CAPTIONER}, such as "
            f"{option}.id=Salesforce/blip-image-captioning-large"
        )
    shapes = tensor_shapes(folder, FILES["transformers"], variant_of(folder, "blip"))
    yield folder, transformers_misfit(transformers.BlipForConditionalGeneration, folder, shapes)


def transformers_misfit(kind: Any, folder: Path, shapes: Shapes | None = None) -> Misfit:
    """Misfits as the library itself finds them, which knows what tensors were called before."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    if shapes is None:
        shapes = tensor_shapes(folder, FILES["transformers"])
    # Tensors of the right shapes that take no memory.
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    # What is missing is drawn at random, which is nobody's business.
    with torch.random.fork_rng(devices=[]):
        _, keys = kind.from_pretrained(
            None, config=config, state_dict=state, output_loading_info=True,
            ignore_mismatched_sizes=True, use_safetensors=True,
        )  # fmt: skip
    unused = [name for name in keys["unexpected_keys"] if not name.endswith("position_ids")]
    return Misfit(
        sorted(keys["missing_keys"]), sorted(one[0] for one in keys["mismatched_keys"]), unused
    )


def _pipeline(folder: Path, option: str, checkpoint: Path | None) -> Iterator[tuple[Path, Misfit]]:
    import diffusers
    import transformers

    if checkpoint is not None:
        check_kind(checkpoint, folder, option)

    libraries = {"diffusers": diffusers, "transformers": transformers}
    loaded = pipeline_shapes(folder, checkpoint)
    for part, library, name in read_parts(folder):
        kind = getattr(libraries.get(library), name, None)
        if part in NOT_LOADED or not hasattr(kind, "from_pretrained"):
            continue
        place = folder / part
        if library == "transformers" and hasattr(kind, "config_class"):
            misfit = transformers_misfit(kind, place, loaded.parts.get(part, {}))
            # A whole CLIP in the place of its text encoder has what that takes, and more.
            yield place, misfit if misfit.missing else misfit._replace(unused=[])
        elif library == "diffusers" and hasattr(kind, "load_config") and hasattr(kind, "forward"):
            yield place, diffusers_misfit(kind, place, loaded.parts.get(part, {}))
    if checkpoint is not None and loaded.unused:
        yield checkpoint, Misfit([], [], loaded.unused)
    _check_channels(folder, option)


def pipeline_shapes(folder: Path, checkpoint: Path | None = None) -> Converted:
    """The shape of each tensor of the parts of a pipeline, from their files or a `checkpoint`."""
    if checkpoint is not None:
        return convert(checkpoint, folder)
    variant, parts = variant_of(folder, "diffusers"), {}
    for part, library, _ in read_parts(folder):
        name = FILES.get(library, FILES["diffusers"])
        if part not in NOT_LOADED and weight_files(folder / part, name, variant)[0].is_file():
            parts[part] = tensor_shapes(folder / part, name, variant)
    return Converted(parts, [])


def check_kind(checkpoint: Path, folder: Path, option: str) -> None:
    """Compare a checkpoint in one file with the pipeline whose configs it is to have.

    Raises:
        ValueError: if it is another Stable Diffusion, or one for another task.
    """
    header = safetensors_header(checkpoint)
    index = read_json(folder / "model_index.json") or {}
    kind, name = kind_of(header), str(index.get("_class_name"))
    if not name.startswith("StableDiffusion") or ("XL" in name) != (kind == "XL"):
        raise ValueError(
            f"{option}.path={checkpoint}: a Stable Diffusion {kind}, and the configs in {folder} "
            f"are those of a {name}; take models={MODELS[kind]}, or another {option}.config"
        )
    given = (header.get(FIRST) or {}).get("shape") or [0, 0]
    config = read_json(folder / "unet" / "config.json") or {}
    if given[1] != (wanted := config.get("in_channels", 4)):
        what = INPAINTING.get(given[1], "another task")
        raise ValueError(
            f"{option}.path={checkpoint}: its UNet takes {given[1]} channels, and the configs in "
            f"{folder} say {wanted}: it is made for {what}, not for drawing from text or an image"
        )


def diffusers_misfit(kind: Any, folder: Path, shapes: Shapes | None = None) -> Misfit:
    """The tensors of a model's files, or of `shapes`, against those of `kind`, of diffusers."""
    import torch

    with torch.device("meta"):
        model = kind.from_config(kind.load_config(folder, local_files_only=True))
    if shapes is None:
        shapes = tensor_shapes(folder, FILES["diffusers"])
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    model._fix_state_dict_keys_on_load(state)  # what tensors were called before
    return _misfit(state, model.state_dict())


def _misfit(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> Misfit:
    return Misfit(
        [name for name in wanted if name not in state],
        [name for name in wanted if name in state and state[name].shape != wanted[name].shape],
        [name for name in state if name not in wanted],
    )


def _check_channels(folder: Path, option: str) -> None:
    """Raise a `ValueError` where a UNet takes more than the latents that its pipeline gives."""
    index = read_json(folder / "model_index.json") or {}
    if "Inpaint" in (name := str(index.get("_class_name"))):
        return
    taken = (read_json(folder / "unet" / "config.json") or {}).get("in_channels", 4)
    given = (read_json(folder / "vae" / "config.json") or {}).get("latent_channels", 4)
    if "Pix2Pix" in name:
        if taken != 2 * given:
            raise ValueError(
                f"{option}: {folder} is to edit images ({name}), whose UNet takes {2 * given} "
                f"channels, and it takes {taken}; change {option}"
            )
        return
    if name.startswith("StableDiffusion") and taken != given:
        what = INPAINTING.get(taken, "another task")
        raise ValueError(
            f"{option}: the UNet in {folder} takes {taken} channels and the VAE gives {given}: it "
            f"is made for {what}, not for drawing from text or an image; change {option}"
        )


def _open_clip(folder: Path, option: str) -> Iterator[tuple[Path, Misfit]]:
    import open_clip
    import torch
    from open_clip import factory

    quiet()
    settings = read_json(folder / "open_clip_config.json") or {}
    if lacking := sorted({"mean", "std"} - set(settings.get("preprocess_cfg") or {})):
        log.warning(
            "%s: %s names no %s in preprocess_cfg: those of OpenAI's CLIP are taken",
            option, folder / "open_clip_config.json", " and ".join(lacking),
        )  # fmt: skip
    model: Any = open_clip.create_model(
        f"local-dir:{folder}", load_weights=False, device="meta",
        pretrained_image=False, pretrained_text=False,
    )  # fmt: skip
    shapes = tensor_shapes(folder, FILES["open_clip"])
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    # As `open_clip.load_checkpoint` does to tensors of its own earlier versions and of others.
    state = factory.convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = factory.convert_to_custom_text_state_dict(state)
    wanted = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in wanted and state.get(name, torch.zeros(2)).numel() == 1:
            state[name] = state[name].reshape(wanted[name].shape)
    if "logit_bias" in wanted:
        state.setdefault("logit_bias", torch.zeros(wanted["logit_bias"].shape))
    state.pop("text.transformer.embeddings.position_ids", None)
    if state.keys() >= wanted.keys():
        factory.resize_pos_embed(state, model)
        factory.resize_text_pos_embed(state, model)
    yield folder, _misfit(state, wanted)


def tensor_shapes(folder: Path, name: str, variant: str | None = None) -> dict[str, list[int]]:
    """The shape of each tensor, by name, in a file or its shards, or those of a variant."""
    return {
        tensor: one["shape"]
        for file in weight_files(folder, name, variant)
        for tensor, one in safetensors_header(file).items()
    }


def check_once(weights: Weights, layout: str, option: str, *, remembered: Path) -> None:
    """`check_tensors`, for weights that are not among those `remembered` as sound.

    Raises:
        ValueError: if they do not fit.
    """
    one = fingerprint({**weights.identity, "libraries": versions()})
    sound = set(read_json(remembered) or [])
    if one not in sound:
        check_tensors(weights.folder, layout, option, weights.file)
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(remembered, json.dumps(sorted(sound | {one})).encode())
