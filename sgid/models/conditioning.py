"""IP-Adapters and ControlNets: files that give a generator further conditions beside the text.

An IP-Adapter (Ye et al., 2023) is a file of safetensors as its authors publish it, with the CLIP
image encoder that it was trained with in a folder. A ControlNet (Zhang et al., 2023) is a folder in
diffusers' layout. Both belong to one family of generators, and are compared with the run's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.models.lora import lora_hash
from sgid.models.tensors import transformers_misfit
from sgid.models.weights import (
    FILES,
    MissingWeights,
    content_hash,
    missing_files,
    read_json,
    safetensors_file,
    safetensors_header,
)

if TYPE_CHECKING:
    from sgid.config.schema import GeneratorConfig

IP_ADAPTER = "models.generator.ip_adapter"
IMAGE_ENCODER = "models.generator.image_encoder"
CONTROLNET = "models.generator.controlnet"

ENCODER = "image_encoder"
"""The folder of the image encoder beside an IP-Adapter."""

EDITOR = "StableDiffusionInstructPix2PixPipeline"
"""The pipeline whose UNet edits an image by an instruction (Brooks et al., 2023)."""

OPTIONS = ("ip_adapter", "image_encoder", "controlnet")
"""Options of a generator that count for methods that use them, and for no other."""

_FETCH = {
    "ip_adapter": (
        f"{IP_ADAPTER}=FILE.safetensors, an IP-Adapter made for the generator, with its CLIP image "
        f"encoder in {ENCODER}/ beside it, or {IMAGE_ENCODER}=FOLDER. For Stable Diffusion 1.5:\n"
        "  hf download h94/IP-Adapter --include 'models/ip-adapter_sd15.safetensors' "
        "'models/image_encoder/*.json' 'models/image_encoder/*.safetensors'"
    ),
    "controlnet": (
        f"{CONTROLNET}=FOLDER, a ControlNet for Canny edges made for the generator. For Stable "
        "Diffusion 1.5:\n  hf download lllyasviel/sd-controlnet-canny --exclude '*.bin'"
    ),
}


def lacking(name: str, method: str, models: str) -> str:
    """The message for a method that needs a condition's model, `name` of `OPTIONS`."""
    how = {"ip_adapter": "with image prompts", "controlnet": "along edges"}[name]
    none = " models=tiny has none: take models=sd15 as well." if models == "tiny" else ""
    return f"aug={method} draws {how}, which takes a further model.{none} Give {_FETCH[name]}"


def find_ip_adapter(path: str) -> Path:
    """The file of an IP-Adapter.

    Raises:
        MissingWeights: when it is not there, or no safetensors.
    """
    return safetensors_file(path, IP_ADAPTER, give=_FETCH["ip_adapter"])


def find_image_encoder(settings: GeneratorConfig) -> Path:
    """The folder of the image encoder of the IP-Adapter.

    Raises:
        MissingWeights: when it, or a file of it, is not there.
    """
    given = settings.image_encoder
    folder = Path(given or Path(str(settings.ip_adapter)).parent / ENCODER).expanduser()
    if lacks := missing_files(folder, "config.json", FILES["transformers"]):
        raise MissingWeights(
            f"{IMAGE_ENCODER}={given or 'null'}: {folder} lacks {', '.join(lacks)} of the CLIP "
            f"image encoder that {settings.ip_adapter} was trained with; give "
            f"{IMAGE_ENCODER}=FOLDER"
        )
    return folder


def find_controlnet(path: str) -> Path:
    """The folder of a ControlNet.

    Raises:
        MissingWeights: when it, or a file of it, is not there.
    """
    folder = Path(path).expanduser()
    if lacks := missing_files(folder, "config.json", FILES["diffusers"]):
        raise MissingWeights(
            f"{CONTROLNET}={path} lacks {', '.join(lacks)} of a ControlNet in diffusers' layout. "
            f"Give {_FETCH['controlnet']}"
        )
    return folder


def conditioning_identity(name: str, settings: GeneratorConfig) -> dict[str, str]:
    """The content of a condition's model, `ip_adapter` or `controlnet`."""
    if name == "controlnet":
        return {"content": content_hash(find_controlnet(str(settings.controlnet)))}
    return {
        "content": lora_hash(find_ip_adapter(str(settings.ip_adapter))),
        "image_encoder": content_hash(find_image_encoder(settings)),
    }


def is_editor(folder: Path) -> bool:
    """Whether a pipeline edits images by instruction, and does nothing else."""
    return (read_json(folder / "model_index.json") or {}).get("_class_name") == EDITOR


_FIRST = {
    "image_proj.proj.weight": "projection_dim",  # IP-Adapter
    "image_proj.proj_in.weight": "hidden_size",  # Plus
    "image_proj.proj.3.weight": "hidden_size",  # full face
}
"""Layers that tell kinds of IP-Adapters apart, and what of the image encoder each takes."""


def check_ip_adapter(file: Path, encoder: Path, folder: Path) -> None:
    """Compare an IP-Adapter and its image encoder with the pipeline in `folder`.

    Raises:
        ValueError: when it was made for another model or encoder, or is none.
    """
    import torch
    import transformers
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    option = f"{IP_ADAPTER}={file}"
    try:
        shapes = {name: one["shape"] for name, one in safetensors_header(file).items()}
    except ValueError as error:
        raise ValueError(f"{option}: no file of safetensors ({error})") from error
    keys = {name for name in shapes if name.startswith("ip_adapter.") and "to_k_ip" in name}
    if not keys or not any(name.startswith("image_proj.") for name in shapes):
        raise ValueError(f"{option}: no IP-Adapter: it has no image_proj.* and ip_adapter.*")
    config = read_json(folder / "unet" / "config.json")
    if config is None:
        raise ValueError(f"{option}: {folder} has no UNet, as Stable Diffusion 1, 2 and XL have")
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
    wanted = {}
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            layer = unet.get_submodule(name.removesuffix(".processor"))
            wanted[f"ip_adapter.{2 * len(wanted) + 1}.to_k_ip.weight"] = [*layer.to_k.weight.shape]
    wrong = [name for name in wanted if shapes.get(name) != wanted[name]]
    wrong += sorted(keys - wanted.keys())
    if wrong:
        there, fits = (_size(some.get(wrong[0])) for some in (shapes, wanted))
        raise ValueError(
            f"{option}: made for another model than {folder}: {len(wrong):,} of {len(wanted):,} "
            f"attention layers do not fit ({wrong[0]} is {there}, and the UNet takes {fits}); "
            f"change {IP_ADAPTER}, or models.generator.weights"
        )
    first = next((name for name in _FIRST if name in shapes), None)
    if first is None:
        raise ValueError(
            f"{option}: takes embeddings of faces, not CLIP's of images; change {IP_ADAPTER}"
        )
    misfit = transformers_misfit(transformers.CLIPVisionModelWithProjection, encoder)
    if misfit.missing or misfit.other_shape:
        one = (misfit.missing + misfit.other_shape)[0]
        raise ValueError(
            f"{IMAGE_ENCODER}: {encoder} holds no CLIPVisionModelWithProjection ({one} is missing "
            "or of another shape)"
        )
    given = read_json(encoder / "config.json") or {}
    entry = first.replace("proj.3", "proj.0")  # of the same layers the first
    width, taken = given.get(_FIRST[first]), shapes[entry][-1]
    if width != taken:
        raise ValueError(
            f"{IMAGE_ENCODER}: {encoder} gives {width} numbers for each image, and {file} takes "
            f"{taken}: it was trained with another encoder; change {IMAGE_ENCODER}"
        )


def _size(shape: list[int] | None) -> str:
    return " x ".join(map(str, shape)) if shape else "not there"


SHARED = (
    "in_channels", "block_out_channels", "down_block_types", "layers_per_block",
    "cross_attention_dim", "addition_embed_type",
)  # fmt: skip
"""Settings that a ControlNet has in common with the UNet that takes what it adds."""


def check_controlnet(control: Path, folder: Path) -> None:
    """Compare a ControlNet with its files, and with the UNet of the pipeline in `folder`.

    Raises:
        ValueError: when it was made for another model, or is none.
    """
    from diffusers.models.controlnets.controlnet import ControlNetModel

    from sgid.models.tensors import diffusers_misfit

    option = f"{CONTROLNET}={control}"
    config: Any = read_json(control / "config.json") or {}
    if (kind := config.get("_class_name")) != "ControlNetModel":
        raise ValueError(f"{option}: holds a {kind}, not a ControlNetModel; change {CONTROLNET}")
    misfit = diffusers_misfit(ControlNetModel, control)
    if any(misfit):
        name = next(iter([*misfit.missing, *misfit.other_shape, *misfit.unused]))
        raise ValueError(f"{option}: its weights do not fit its config ({name}); fetch it again")
    if (channels := config.get("conditioning_channels", 3)) != 3:
        raise ValueError(f"{option}: takes {channels} channels, and edges are an image of 3")
    unet = read_json(folder / "unet" / "config.json")
    if unet is None:
        raise ValueError(f"{option}: {folder} has no UNet, as Stable Diffusion 1, 2 and XL have")
    given = len(config.get("conditioning_embedding_out_channels") or (16, 32, 96, 256))
    vae = read_json(folder / "vae" / "config.json") or {}
    if given != (own := len(vae.get("block_out_channels") or range(4))):
        raise ValueError(
            f"{option}: made for another model than {folder}: it halves edges {given - 1} times, "
            f"and the VAE images {own - 1} times; change {CONTROLNET}"
        )
    for name in SHARED:
        if config.get(name) != (own := unet.get(name)):
            raise ValueError(
                f"{option}: made for another model than {folder}: {name} is {config.get(name)}, "
                f"and the UNet's {own}; change {CONTROLNET}, or models.generator.weights"
            )
