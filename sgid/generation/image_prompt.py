"""Image prompts: an IP-Adapter in the UNet, whose scale is each image's own (Ye et al., 2023).

The adapter is loaded by diffusers' `load_ip_adapter`, and its attention is computed by diffusers'
own processors. These have one scale for all images of a call. Attention is linear in its values, so
that the scale of each image is put on the values instead: it travels beside the image's tokens, as
one more number of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ImageEmbedding:
    """An image as the adapter takes it, and what stands for no image in its place.

    Each is (D,), CLIP's embedding, or (T, D), its last but one hidden states.
    """

    embeds: torch.Tensor
    negative: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.embeds.nbytes + self.negative.nbytes


@final
class ImagePrompts:
    """An IP-Adapter of a pipeline, in its UNet only while images with prompts are drawn.

    Without it the UNet is as if there had never been one. Batches at work share the UNet, so that
    those of the other kind have to wait.

    Args:
        pipe: a pipeline of Stable Diffusion 1, 2 or XL.
        file: the adapter, of safetensors.
        encoder: the folder of the CLIP image encoder that it was trained with.
    """

    def __init__(self, pipe: Any, file: Path, encoder: Path) -> None:
        from diffusers.models.embeddings import ImageProjection
        from transformers import CLIPVisionModelWithProjection

        self.pipe = pipe
        unet = pipe.unet
        self._without = unet.attn_processors, unet.encoder_hid_proj, None
        model: Any = CLIPVisionModelWithProjection.from_pretrained(
            encoder, dtype=unet.dtype, local_files_only=True, use_safetensors=True
        )
        pipe.register_modules(image_encoder=model.to(pipe.device).eval())
        pipe.load_ip_adapter(
            str(file.parent), subfolder="", weight_name=file.name, local_files_only=True
        )
        projection, unet.encoder_hid_proj = unet.encoder_hid_proj, None  # it may have processors
        plain = isinstance(projection.image_projection_layers[0], ImageProjection)
        self.takes_states = not plain
        processors = unet.attn_processors
        for processor in processors.values():
            if hasattr(processor, "to_k_ip"):
                processor.to_k_ip[0] = _Keys(processor.to_k_ip[0])
                processor.to_v_ip[0] = _Values(processor.to_v_ip[0])
        self._with = processors, _Scaled(projection).requires_grad_(False), "ip_image_proj"
        unet.requires_grad_(False)
        self._in = True
        self.use(False)

    def use(self, wanted: bool) -> None:
        """Put the adapter into the UNet, or take it out."""
        if wanted == self._in:
            return
        processors, projection, kind = self._with if wanted else self._without
        unet = self.pipe.unet
        unet.encoder_hid_proj = None
        unet.set_attn_processor(dict(processors))
        unet.encoder_hid_proj = projection
        unet.config.encoder_hid_dim_type = kind
        self._in = wanted

    def embed(self, images: Sequence[Image]) -> list[ImageEmbedding]:
        """The embeddings of images, in one batch."""
        embeds, negatives = self.pipe.encode_image(
            list(images), self.pipe.device, 1, self.takes_states
        )
        # Copies, since one that is kept would keep its whole batch.
        return [
            ImageEmbedding(one.clone(), no.clone())
            for one, no in zip(embeds, negatives, strict=True)
        ]


def image_arguments(embeds: Sequence[torch.Tensor], scales: torch.Tensor) -> list[torch.Tensor]:
    """The `image_embeds` that the UNet takes: one image of each row, and its scale (B,)."""
    return [torch.stack(list(embeds))[:, None], scales]  # (B, 1, ...), (B,)


class _Scaled(nn.Module):
    """Image tokens (B, 1, T, D + 1) of embeddings and scales; the last number is the scale."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, given: list[torch.Tensor]) -> list[torch.Tensor]:
        embeds, scales = given
        (tokens,) = self.projection([embeds])  # (B, 1, T, D)
        column = scales.to(tokens.dtype).view(-1, 1, 1, 1).expand(*tokens.shape[:-1], 1)
        return [torch.cat([tokens, column], dim=-1)]


class _Keys(nn.Module):
    """Keys of image tokens, whatever their scale."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.linear(tokens[..., :-1])


class _Values(nn.Module):
    """Values of image tokens, times their scale."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.linear(tokens[..., :-1]) * tokens[..., -1:]
