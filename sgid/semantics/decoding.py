"""Captions word by word: nucleus sampling (Holtzman et al., ICLR 2020) that batches do not change.

Each token of a caption has a number in [0, 1) of its own, made before, and is the one at which the
probabilities, summed from the most likely on, pass that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sgid.reproducibility import derive_seed


def uniforms(seed: int, keys: Sequence[str], *, candidates: int, tokens: int) -> torch.Tensor:
    """(B * candidates, tokens) in [0, 1), those of a key side by side.

    They hang on `seed` and the key alone. The first row of each key is 0: the greedy caption.
    """
    drawn = torch.zeros(len(keys), candidates, tokens)
    for own, key in zip(drawn, keys, strict=True):
        generator = torch.Generator().manual_seed(derive_seed(seed, "caption", key))
        torch.rand(own[1:].shape, generator=generator, out=own[1:])
    return drawn.flatten(0, 1)


def nucleus(logits: torch.Tensor, uniform: torch.Tensor, top_p: float) -> torch.Tensor:
    """One token per row of `logits` (rows, vocabulary), by inverse transform sampling.

    The nucleus is the fewest most likely tokens with a mass of `top_p` or more. A `uniform` (rows,)
    of 0 takes the most likely token, the first one if there are several.
    """
    ordered, tokens = logits.float().sort(dim=-1, descending=True, stable=True)
    mass = ordered.softmax(-1).cumsum(-1)
    last = (mass[:, :-1] < top_p).sum(-1, keepdim=True)
    target = uniform[:, None] * mass.gather(-1, last)
    place = torch.searchsorted(mass, target, right=True)
    # A sum that a GPU takes in parallel may fall by a rounding from one token to the next.
    return tokens.gather(-1, torch.minimum(place, last))[:, 0]


def decode(
    decoder: Any, states: torch.Tensor, uniform: torch.Tensor, *, top_p: float
) -> torch.Tensor:
    """(B * n, tokens) written by a `BlipTextLMHeadModel` with shared cross-attention.

    Args:
        states: (B, T, D), the images.
        uniform: (B * n, tokens), the draws; its width is the longest caption.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    text = decoder.config
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    token = torch.full((len(uniform),), text.bos_token_id, device=states.device)
    ended = torch.zeros_like(token, dtype=torch.bool)
    written = []
    for draws in uniform.unbind(1):
        logits = decoder(
            input_ids=token[:, None],
            encoder_hidden_states=states,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        token = nucleus(logits, draws, top_p).masked_fill(ended, text.pad_token_id)
        written.append(token)
        ended |= token == text.sep_token_id
        if ended.all():
            break
    return torch.stack(written, dim=1)
