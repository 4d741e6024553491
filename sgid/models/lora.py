"""LoRAs and learned tokens: files of weights that change what a diffusion pipeline draws.

A LoRA is a file of safetensors in any layout that diffusers' `load_lora_weights` reads. Learned
tokens (textual inversion, Gal et al., 2023) are a file of safetensors with the vectors (n, D) of
each token under `<text encoder>/<token>`, such as `text_encoder/<class-3>`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sgid.models.tensors import pipeline_shapes
from sgid.models.weights import (
    read_json,
    safetensors_file,
    safetensors_header,
)
from sgid.records import Adapter

if TYPE_CHECKING:
    import torch

LORA = "models.generator.lora"
"""The option of the LoRAs that are merged into the generator."""

TOKENS = "tokens.safetensors"
"""The file of the learned tokens in an artifact."""


def token_name(label: int) -> str:
    """The learned token of a class in prompts."""
    return f"<class-{label}>"


def text_encoders(pipe: Any) -> Iterator[tuple[str, Any, Any]]:
    """The name of each text encoder of a pipeline, itself, and its tokenizer."""
    for name in ("text_encoder", "text_encoder_2"):
        if (encoder := getattr(pipe, name, None)) is not None:
            yield name, encoder, getattr(pipe, name.replace("text_encoder", "tokenizer"))


def tokens_per_class(file: Path) -> int:
    """The most vectors that a learned token has."""
    return max(one["shape"][0] for one in safetensors_header(file).values())


Saved = list[tuple[Any, "torch.Tensor"]]
"""Modules, and the weights (out, in, ...) that they had."""


def merge(pipe: Any, adapters: Sequence[Adapter]) -> Saved:
    """Add LoRAs to the weights of `pipe`, by diffusers and peft; the weights as they were before.

    W + sum of scale * alpha / rank * B A (Hu et al., 2022, eq. 3). Merged, they cost nothing per
    image, and neither a compiled network nor its caches see another module.

    Raises:
        ValueError: when a LoRA does not fit the pipeline.
    """
    if not adapters:
        return []
    names = [f"adapter-{i}" for i in range(len(adapters))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant
        return _merged(pipe, names, adapters)


def _merged(pipe: Any, names: Sequence[str], adapters: Sequence[Adapter]) -> Saved:
    from peft.tuners.tuners_utils import BaseTunerLayer

    try:
        for name, one in zip(names, adapters, strict=True):
            pipe.load_lora_weights(
                str(one.file.parent), weight_name=one.file.name, adapter_name=name,
                local_files_only=True, use_safetensors=True,
            )  # fmt: skip
        pipe.set_adapters(names, [one.scale for one in adapters])
        changed: list[Any] = [
            layer.get_base_layer()
            for part in pipe.components.values()
            if hasattr(part, "modules")
            for layer in part.modules()
            if isinstance(layer, BaseTunerLayer)
        ]
        saved = [(layer, layer.weight.detach().clone()) for layer in changed]
        pipe.fuse_lora(adapter_names=names)
    finally:
        pipe.unload_lora_weights()
    return saved


def restore(saved: Saved) -> None:
    """Give modules the weights back that they had before `merge`, bit for bit."""
    import torch

    with torch.no_grad():
        for layer, weight in saved:
            layer.weight.copy_(weight)


def lora_hash(file: Path) -> str:
    """A hash of the content of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_lora(path: str, option: str) -> Path:
    """The file of a LoRA.

    Raises:
        MissingWeights: when it is not there, or no safetensors.
    """
    return safetensors_file(path, option)


def check_lora(file: Path, folder: Path, option: str, checkpoint: Path | None = None) -> None:
    """Compare the shapes of a LoRA with the weights of the pipeline in `folder`, or of one whose
    weights are in the file `checkpoint`.

    Raises:
        ValueError: when it was made for another model, or is no LoRA.
    """
    import diffusers

    name = str((read_json(folder / "model_index.json") or {}).get("_class_name"))
    kind: Any = getattr(diffusers, name)
    if not hasattr(kind, "lora_state_dict"):
        raise ValueError(f"{option}={file}: diffusers loads no LoRA into a {name}; change {option}")
    config = SimpleNamespace(**(read_json(folder / "unet" / "config.json") or {}))
    given: dict[str, Any] = {"unet_config": config} if vars(config) else {}
    try:
        state, *_ = kind.lora_state_dict(
            str(file.parent), weight_name=file.name, local_files_only=True, use_safetensors=True,
            **given,
        )  # fmt: skip
        layers = _layers(state)
    except Exception as error:  # of whatever layout it takes the file for
        raise ValueError(f"{option}={file}: no LoRA that diffusers reads ({error})") from error
    if not layers:
        raise ValueError(f"{option}={file}: holds no LoRA; change {option}")
    weights, wrong = _weights(folder, checkpoint), []
    for (part, layer), shape in layers.items():
        weight = weights.get((part, layer))
        if weight != shape:
            there = f"is {weight[0]} x {weight[1]}" if weight else "is not there"
            wrong.append(f"{part}.{layer} {there}, and the LoRA {shape[0]} x {shape[1]}")
    if wrong:
        raise ValueError(
            f"{option}={file}: made for another model than {folder}: {len(wrong):,} of its "
            f"{len(layers):,} layers do not fit ({wrong[0]}); change {option}, or "
            "models.generator.weights"
        )


Layer = tuple[str, str]
"""A part of a pipeline, and the name of a layer in it."""


def _layers(state: dict[str, Any]) -> dict[Layer, tuple[int, int]]:
    """The shapes (out, in) of the layers that a LoRA changes."""
    from diffusers.utils.state_dict_utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    found = {}
    for part in sorted({name.partition(".")[0] for name in state}):
        own = {name.removeprefix(f"{part}."): w for name, w in state.items() if _is_of(part, name)}
        if part.startswith("text_encoder"):
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        else:
            own = convert_unet_state_dict_to_peft(own)
        for name, down in own.items():
            layer, mark, _ = name.partition(".lora_A.")
            if mark:
                up = own[name.replace(".lora_A.", ".lora_B.")]
                found[part, _bare(layer)] = up.shape[0], down.shape[1]
    return found


def _is_of(part: str, name: str) -> bool:
    return name.startswith(f"{part}.")


def _bare(layer: str) -> str:
    """The name of a layer without the prefix that some text encoders have."""
    return layer.removeprefix("text_model.")


def _weights(folder: Path, checkpoint: Path | None) -> dict[Layer, tuple[int, int]]:
    """The shapes (out, in) of the weights of the parts of a pipeline."""
    return {
        (part, _bare(name.removesuffix(".weight"))): (shape[0], shape[1])
        for part, shapes in pipeline_shapes(folder, checkpoint).parts.items()
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) > 1
    }
