"""Checkpoints in one file, as Stable Diffusion 1, 2 and XL are shared: the tensors of all parts, by
the names of the original code (latent diffusion, Rombach et al., 2022), and no configs.

The configs are those of a pipeline in diffusers' layout. Its single-file loader converts the names;
here the same conversion is done on the header alone, to see that it leaves no tensor out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from sgid.models.weights import read_json, read_parts, safetensors_header

CLIP = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
XL = "conditioner.embedders."

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
"""The first weight of the UNet, (out, in, 3, 3)."""

MODELS = {"1": "sd15", "2": "sd21", "XL": "sdxl", "": "any"}
"""The choice of `models` that has the configs of each Stable Diffusion."""

BOOKKEEPING = re.compile(
    r"(model_ema\.|betas$|alphas_cumprod|sqrt_|log_one_minus_|posterior_|logvar$|lvlb_weights$"
    r"|denoiser\.|global_step$|first_stage_model\.loss\.|.*\.position_ids$|.*\.logit_scale$"
    r"|.*\.attn_mask$|cond_stage_model\.model\.(text_projection$|visual\.)"
    r"|conditioner\.embedders\.[01]\.model\.visual\.)"
)
"""Tensors that training leaves in a file, and of which drawing makes no use."""


class Converted(NamedTuple):
    """The shapes of the tensors of each part, by diffusers' names, and the names of the others."""

    parts: dict[str, dict[str, list[int]]]
    unused: list[str]


def kind_of(names: Collection[str]) -> str:
    """The Stable Diffusion that a file of these tensors is of: `1`, `2` or `XL`; else empty."""
    for beginning, kind in ((CLIP, "1"), (OPEN_CLIP, "2"), (XL, "XL")):
        if any(name.startswith(beginning) for name in names):
            return kind
    return ""


def convert(file: Path, folder: Path) -> Converted:
    """Rename the tensors of `file`, of which the header is read, for the configs in `folder`."""
    tensors = _traced(safetensors_header(file))
    parts: dict[str, dict[str, list[int]]] = {}
    used: set[str] = set()
    for part, _, kind in read_parts(folder):
        if found := _converted(dict(tensors), part, kind, folder / part):
            parts[part] = {name: list(one.shape) for name, one in found.items()}
            used |= {name for one in found.values() for name in one.made_of}
    left = (name for name in tensors if name not in used)
    return Converted(parts, [name for name in left if not _is_bookkeeping(name)])


def _traced(header: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors without memory, each with the names of those that it was `made_of`."""
    import torch

    class Traced(torch.Tensor):
        made_of: frozenset[str]

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = super().__torch_function__(func, types, args, kwargs or {})
            if isinstance(result, cls):
                origins = (one.made_of for one in args if isinstance(one, cls))
                result.made_of = frozenset().union(*origins)
            return result

    tensors = {}
    for name, one in header.items():
        tensors[name] = torch.empty(one["shape"], device="meta").as_subclass(Traced)
        tensors[name].made_of = frozenset([name])
    return tensors


def _is_bookkeeping(name: str) -> bool:
    from diffusers.loaders.single_file_utils import SD_2_TEXT_ENCODER_KEYS_TO_IGNORE

    # Of SD 2 the last layer of the text encoder is not used.
    return bool(BOOKKEEPING.match(name)) or name in SD_2_TEXT_ENCODER_KEYS_TO_IGNORE


def _converted(tensors: dict[str, Any], part: str, kind: str, place: Path) -> dict[str, Any]:
    """The tensors of a part by diffusers' names; empty for parts without any."""
    from diffusers.loaders import single_file_utils as ldm

    config = read_json(place / "config.json") or {}
    if kind == "UNet2DConditionModel":
        return ldm.convert_ldm_unet_checkpoint(tensors, config)
    if kind == "AutoencoderKL":
        return ldm.convert_ldm_vae_checkpoint(tensors, config)
    if not kind.startswith("CLIPTextModel"):
        return {}
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=config.get("hidden_size")))
    if ldm.is_clip_model(tensors) or (ldm.is_clip_sdxl_model(tensors) and part == "text_encoder"):
        return ldm.convert_ldm_clip_checkpoint(tensors)
    prefix = f"{XL}1.model." if part == "text_encoder_2" else OPEN_CLIP
    return ldm.convert_open_clip_checkpoint(model, tensors, prefix=prefix)
