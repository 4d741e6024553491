"""GPU memory of Stable Diffusion by model and mode, counted without a GPU and without weights.

    python -m experiments.benchmarks.memory
    python -m experiments.benchmarks.memory --batch 4

The published shapes on torch's device `meta`: every tensor is counted from when it is made to when
it is let go, attention as its fused kernels hold it (its output alone), a linear layer's output
twice. Not counted are CUDA's own context (about half a GiB), workspaces of convolutions, and what
the allocator cannot reuse.
"""

from __future__ import annotations

import argparse
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.benchmarks.common import table
from experiments.benchmarks.shapes import SHAPES
from sgid.generation.memory import MODES, slice_vae

GIB = 2**30
CLIP_L = SHAPES["sd15"].text
VAE = {**SHAPES["sd15"].vae, "latent_channels": 4}


@dataclass(frozen=True)
class Model:
    """The arguments of each part's class; `side` is that of images in pixels.

    The VAE of XL computes in float32, an image at a time.
    """

    side: int
    unet: dict[str, Any]
    texts: list[dict[str, Any]]
    upcast: bool = False
    pooled: int = 0
    tokens: int = field(default=77)


def _clip(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        **CLIP_L, "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": layers, "num_attention_heads": heads,
    }  # fmt: skip


MODELS = {
    "sd15": Model(512, {"sample_size": 64, "cross_attention_dim": 768}, [CLIP_L]),
    "sd21": Model(
        512,
        {
            "sample_size": 64, "cross_attention_dim": 1024, "use_linear_projection": True,
            "attention_head_dim": (5, 10, 20, 20),
        },
        [_clip(1024, 23, 16)],
    ),
    "sdxl": Model(
        1024,
        {
            "sample_size": 128, "cross_attention_dim": 2048, "use_linear_projection": True,
            "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
            "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
            "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        },
        [CLIP_L, _clip(1280, 32, 20)],
        upcast=True,
        pooled=1280,
    ),
}  # fmt: skip


class Tally(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at once, and the most there were.

    Those of `weights` are not counted, nor are views of them.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen = {one.untyped_storage()._cdata for one in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, torch.Tensor):
                self._count(one)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention that holds its output alone, as flash attention does but for a row of numbers."""
    kept = torch.nn.functional.scaled_dot_product_attention

    def attention(query: Any, key: Any, value: Any, *args: Any, **more: Any) -> Any:
        return query.new_empty(*query.shape[:-1], value.shape[-1])

    torch.nn.functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = kept


def peak(module: torch.nn.Module, call: Callable[[], Any]) -> int:
    """The most bytes that the tensors of a call of `module` take at once, weights excepted."""
    gc.collect()
    weights = [*module.parameters(), *module.buffers()]
    with torch.no_grad(), fused_attention(), Tally(weights) as tally:
        call()
    return tally.most


def size(module: torch.nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in module.parameters())


@dataclass(frozen=True)
class Parts:
    """A model without numbers."""

    unet: Any
    vae: Any
    texts: list[Any]


def build(model: Model, mode: str | None) -> Parts:
    """The parts of a model on torch's device `meta`, in the number formats of a GPU."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**model.unet).half()
        vae = AutoencoderKL(sample_size=model.side, **VAE)
        texts = [CLIPTextModel(CLIPTextConfig(**one)).half() for one in model.texts]
    vae = vae if model.upcast else vae.half()
    if model.upcast:
        vae.enable_slicing()
    slice_vae(vae, mode)
    return Parts(unet.eval(), vae.eval(), [one.eval() for one in texts])


def phases(model: Model, parts: Parts, batch: int) -> dict[str, int]:
    """Bytes of the activations of each phase, for a batch of guided images."""
    side, vae = model.side // 8, parts.vae
    number: Any = {"dtype": torch.float16, "device": "meta"}
    rows = 2 * batch
    more: dict[str, Any] = {}
    if model.pooled:
        more["added_cond_kwargs"] = {
            "text_embeds": torch.empty(rows, model.pooled, **number),
            "time_ids": torch.empty(rows, 6, **number),
        }
    noisy = torch.empty(rows, 4, side, side, **number)
    text = torch.empty(rows, model.tokens, model.unet["cross_attention_dim"], **number)
    time = torch.zeros((), device="meta")
    pixels = torch.empty(batch, 3, model.side, model.side, dtype=vae.dtype, device="meta")
    latents = torch.empty(batch, 4, side, side, dtype=vae.dtype, device="meta")
    return {
        "encode": peak(vae, lambda: vae.encode(pixels, return_dict=False)),
        "denoise": peak(
            parts.unet, lambda: parts.unet(noisy, time, text, return_dict=False, **more)
        ),
        "decode": peak(vae, lambda: vae.decode(latents, return_dict=False)),
    }


def count(model: Model, mode: str | None, batch: int) -> dict[str, float]:
    """GiB of the weights that are on the GPU and the activations, in each phase.

    Ordinarily all weights are there. In turns, the text encoders are when prompts are encoded, the
    UNet and the VAE when images are drawn, the VAE alone when they are decoded: in that order
    accelerate sends one away when the next is called.
    """
    parts = build(model, mode)
    unet, vae, texts = size(parts.unet), size(parts.vae), sum(map(size, parts.texts))
    everything = unet + vae + texts
    there = {"encode": vae, "denoise": unet + vae, "decode": vae} if mode else {}
    found = {
        phase: (there.get(phase, everything) + activations) / GIB
        for phase, activations in phases(model, parts, batch).items()
    }
    return {"texts": (texts if mode else everything) / GIB, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    given = parser.parse_args()
    rows = []
    for name in given.models.split(","):
        for mode in MODES:
            found = count(MODELS[name], mode, given.batch)
            where = max(found, key=lambda phase: found[phase])
            cells = (f"{found[phase]:.1f}" for phase in ("texts", "encode", "denoise", "decode"))
            rows.append((name, f"{MODELS[name].side} px", mode or "ordinary", *cells,
                         f"**{found[where]:.1f}**"))  # fmt: skip
    head = ("model", "image", "memory", "prompts", "encode", "denoise", "decode", "most (GiB)")
    print(f"batches of {given.batch}\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
