"""A diffusers pipeline from a folder: weights from safetensors alone, and no code of the folder's.

Left out is what is not about drawing: the safety checker, which blackens images, image prompts,
and the watermark, which would tell generated images from originals to any classifier.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.models.lora import merge
from sgid.models.weights import read_json, variant_of
from sgid.records import Adapter

if TYPE_CHECKING:
    import torch


OWN = "own"
"""As the name of a scheduler: the one that comes with the model."""

_LEFT_OUT: dict[str, Any] = {
    "safety_checker": None,
    "requires_safety_checker": False,
    "feature_extractor": None,
    "image_encoder": None,
    "watermarker": None,
    "add_watermarker": False,
}


def load(
    folder: Path,
    *,
    scheduler: str,
    device: torch.device,
    dtype: torch.dtype,
    lora: Sequence[Adapter] = (),
    checkpoint: Path | None = None,
) -> Any:
    """The pipeline that `model_index.json` names, on `device` and silent, with `lora` merged in.

    The weights are those of `folder`, or of a `checkpoint` in one file.

    Raises:
        ValueError: when it is none of diffusers' own, or `scheduler` is none that it can take.
    """
    import diffusers

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    name = index.get("_class_name")
    kind: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise ValueError(
            f"models.generator.weights: {folder / 'model_index.json'} names the pipeline {name}, "
            f"which diffusers {diffusers.__version__} does not have; code that comes with a model "
            "is never run. Change models.generator.weights"
        )
    takes = inspect.signature(kind.__init__).parameters
    left_out = {part: value for part, value in _LEFT_OUT.items() if part in takes}
    left_out |= {part: None for part, named in index.items() if named == [None, None]}
    left_out |= {"local_files_only": True, "dtype": dtype}
    if checkpoint is not None:
        pipe = kind.from_single_file(
            str(checkpoint), config=str(folder), use_safetensors=True, **left_out
        )
    else:
        variant = variant_of(folder, "diffusers")
        pipe = kind.from_pretrained(folder, variant=variant, use_safetensors=True, **left_out)
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    merge(pipe, lora)
    pipe.scheduler = with_settings_of(pipe.scheduler, scheduler)
    return pipe


def load_controlnet(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The ControlNet in a folder; nothing is learned of it."""
    import torch
    from diffusers.models.controlnets.controlnet import ControlNetModel

    net: Any = ControlNetModel.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    return net.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()


def with_settings_of(own: Any, name: str) -> Any:
    """The diffusers scheduler `name`, with the noise schedule that the model was trained on.

    `own` is the scheduler that came with the model; it is returned as it is for the name "own".
    """
    import diffusers

    kind: Any = getattr(diffusers, name, None)
    if name == OWN or kind is type(own):
        return own
    option, can = f"models.generator.scheduler={name}", _can_replace(own)
    if not can:  # as with flow matching
        raise ValueError(
            f"{option}: nothing can take the place of this model's {type(own).__name__}; "
            f"take models.generator.scheduler={OWN}"
        )
    if name not in can:
        raise ValueError(
            f"{option}: cannot take the place of this model's {type(own).__name__}; {OWN} or one "
            f"of {', '.join(can)} can"
        )
    try:
        return kind.from_config(own.config)
    except (ImportError, ValueError) as error:  # a package of its own; settings that it lacks
        raise ValueError(f"{option}: {error}; take another, or {OWN}") from error


def _can_replace(own: Any) -> list[str]:
    """The schedulers of the family of `own`, by name.

    The EDM schedulers, which diffusers counts among them, scale a network's input and output in a
    way of their own; LCM and TCD, which it does not, serve models distilled for them.
    """
    import diffusers

    family = {kind.__name__ for kind in own.compatibles} - {type(own).__name__}
    if family:
        family |= {"LCMScheduler", "TCDScheduler"}
    edm = type(own).__name__.startswith("EDM")
    return sorted(
        name
        for name in family
        if name.startswith("EDM") == edm and "Dummy" not in name and hasattr(diffusers, name)
    )


def check_scheduler(
    folder: Path,
    *,
    scheduler: str,
    steps: int,
    strengths: Sequence[float],
    predicts: Sequence[str] = (),
) -> None:
    """Take all steps once on four numbers, with a model that sees noise of 0.

    `predicts` are the methods that look at predicted images.

    Raises:
        ValueError: naming the option, if a scheduler cannot take the model's place, or so many
            steps, or gives what is not finite, or no predicted images where they are needed.
    """
    import diffusers
    import torch

    config = read_json(folder / "scheduler" / "scheduler_config.json") or {}
    kind: Any = getattr(diffusers, str(config.get("_class_name")), None)
    if kind is None:  # a pipeline without one; `load` refuses what diffusers does not know
        return
    one = with_settings_of(kind.from_config(config), scheduler)
    if not one.compatibles or "FlowMatch" in type(one).__name__:
        return  # its steps depend on the size of the image, and only its own pipeline knows how
    option = f"models.generator.scheduler={scheduler} ({type(one).__name__})"
    if predicts and one.init_noise_sigma != 1:
        raise ValueError(
            f"aug={', '.join(predicts)} looks at predicted images, which {option} does not give; "
            "take models.generator.scheduler=DPMSolverMultistepScheduler or DDIMScheduler"
        )
    longest = one.config.get("num_train_timesteps", steps)
    if steps > longest:
        raise ValueError(f"steps={steps}: {option} has {longest} steps at most")
    for strength in strengths:
        own = copy.deepcopy(one)
        given = f"steps={steps} at noise_rate={strength:g}: {option}"
        try:
            own.set_timesteps(steps)
            skipped = max(steps - min(int(steps * strength), steps), 0) * own.order
            if hasattr(own, "set_begin_index"):
                own.set_begin_index(skipped)
            latents, times = torch.ones(1, 1, 2, 2), own.timesteps[skipped:]
            latents = own.add_noise(latents, torch.zeros_like(latents), times[:1])
            for time in times:
                own.scale_model_input(latents, time)
                latents = own.step(torch.zeros_like(latents), time, latents).prev_sample
        except Exception as error:  # schedulers fail in many ways
            raise ValueError(
                f"{given} fails ({type(error).__name__}: {error}); take another number of steps, "
                "or another scheduler"
            ) from error
        if not latents.isfinite().all():
            raise ValueError(
                f"{given} gives what is not finite; take fewer steps, a higher noise rate, or "
                "another scheduler"
            )
