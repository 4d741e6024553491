"""BLIP's attention by torch's fused kernels, with one copy of an image for all its captions.

transformers writes BLIP's attention out as matrix products, and repeats the image for each caption.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch.nn.functional import scaled_dot_product_attention


def fuse(model: Any) -> None:
    """Put the two attentions of this module in place of a `BlipForConditionalGeneration`'s own."""
    for layer in model.vision_model.encoder.layers:
        layer.self_attn = ImageAttention(layer.self_attn)
    for layer in model.text_decoder.bert.encoder.layer:
        layer.crossattention.self = SharedCrossAttention(layer.crossattention.self)


@final
class ImageAttention(torch.nn.Module):
    """Among the patches of an image, with the weights of `own`, a `BlipAttention`."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.qkv, self.projection = own.qkv, own.projection
        self.heads = own.num_heads

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        """(B, T, D) -> (B, T, D)."""
        mixed = self.qkv(hidden_states).unflatten(-1, (3, self.heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # 3 of (B, heads, T, d)
        context = scaled_dot_product_attention(query, key, value)
        return self.projection(context.transpose(1, 2).flatten(2)), None


@final
class SharedCrossAttention(torch.nn.Module):
    """From captions to their image, with the weights of `own`, a `BlipTextSelfAttention`.

    The n captions of an image are n queries to its one set of keys and values, which are computed
    at the first step and stay in the cache.
    """

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.query, self.key, self.value = own.query, own.key, own.value
        self.heads = own.num_attention_heads
        self.layer = own.layer_idx

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        past_key_values: Any,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """(B * n, L, D), those of an image side by side, and (B, T, E) -> (B * n, L, D)."""
        cache = past_key_values.cross_attention_cache
        if past_key_values.is_updated.get(self.layer):
            key, value = cache.layers[self.layer].keys, cache.layers[self.layer].values
        else:
            both = (self._split(part(encoder_hidden_states)) for part in (self.key, self.value))
            key, value = cache.update(*both, self.layer)
            past_key_values.is_updated[self.layer] = True
        images = len(encoder_hidden_states)
        query = self._split(self.query(hidden_states).view(images, -1, self.query.out_features))
        context = scaled_dot_product_attention(query, key, value)  # (B, heads, n * L, d)
        return context.transpose(1, 2).reshape(*hidden_states.shape[:2], -1), None

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, heads, T, d)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)
