"""A diffusers pipeline from a folder: weights from safetensors alone, and no code of the folder's.

Left out is what is not about drawing: the safety checker, which blackens images, image prompts,
and the watermark, which would tell generated images from originals to any classifier.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def load(folder: Path, *, scheduler: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline that `model_index.json` names, on `device` and silent.

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
    pipe = kind.from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        **left_out,
    ).to(device)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = with_settings_of(pipe.scheduler, scheduler)
    return pipe


def with_settings_of(own: Any, name: str) -> Any:
    """The diffusers scheduler `name`, with the noise schedule that the model was trained on.

    `own` is the scheduler that came with the model; it is returned as it is for the name "own".
    """
    import diffusers

    kind = getattr(diffusers, name, None)
    if name == OWN or kind is type(own):
        return own
    option = f"models.generator.scheduler={name}"
    if kind is None or not hasattr(kind, "add_noise"):
        raise ValueError(
            f"{option}: no such diffusers scheduler; for example "
            f"DPMSolverMultistepScheduler, DDIMScheduler, UniPCMultistepScheduler, or {OWN}"
        )
    if own.compatibles == [type(own)]:  # as with flow matching
        raise ValueError(
            f"{option}: nothing can take the place of this model's {type(own).__name__}; "
            f"take models.generator.scheduler={OWN}"
        )
    return kind.from_config(own.config)
