"""BLIP captioner (Li et al., ICML 2022): one greedy and several nucleus captions of each image.

Nucleus sampling (Holtzman et al., ICLR 2020) does not depend on the batch: each token of a caption
has its own number in [0, 1), drawn before, and is the one at which the probabilities, summed from
the most likely on, pass that number. Attention runs on torch's fused kernels, with one copy of an
image for all its captions, where transformers writes it out and repeats the image for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import torch
from torch.nn.functional import scaled_dot_product_attention

from sgid.models.weights import variant_of
from sgid.reproducibility import derive_seed
from sgid.runtime.batching import AdaptiveBatcher
from sgid.runtime.threads import pixel_batches

if TYPE_CHECKING:
    from PIL.Image import Image


HINT = (
    "take models.captioner.dtype=float16 (or bfloat16), another models.captioner.weights, or "
    "another trainer.device"
)


class Captioner(Protocol):
    """Writes captions."""

    def __call__(self, images: Sequence[Image], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The distinct candidate captions of each image, the greedy one first."""
        ...


@final
class BlipCaptioner:
    """One greedy caption and `candidates - 1` nucleus samples for each image.

    The nucleus samples of an image depend on its key and on `seed` alone, not on the images that
    share its batch. The settings are these alone: a model's own generation config is not read.

    Args:
        folder: a `BlipForConditionalGeneration` with its processor.
        candidates: captions per image, at least 1.
        top_p: probability mass that nucleus sampling keeps, in (0, 1].
        max_tokens: longest caption, in tokens.
        batch_size: images per forward pass; halved, for good, when memory runs out.

    Raises:
        ValueError: when the model cannot write `max_tokens`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        candidates: int,
        top_p: float,
        max_tokens: int,
        seed: int,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        import torch
        from transformers import AutoProcessor, BlipForConditionalGeneration

        self.candidates = candidates
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.seed = seed
        self.batches = AdaptiveBatcher(batch_size, hint=HINT)
        self.processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model: Any = BlipForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype,
            variant=variant_of(folder, "blip"),
        )  # fmt: skip
        longest = model.config.text_config.max_position_embeddings
        if max_tokens > longest:
            raise ValueError(
                f"models.captioner.max_tokens={max_tokens}: {folder} writes up to {longest}"
            )
        self.model: Any = model.to(device).eval()
        fuse(self.model)
        # As the processor itself scales: to the last bit, and of numbers from 0 to 255.
        scale = self.processor.image_processor
        levels = 1 / scale.rescale_factor
        self.mean, self.std = (
            (torch.tensor(own, device=device) * levels)[:, None, None]
            for own in (scale.image_mean, scale.image_std)
        )

    def __call__(self, images: Sequence[Image], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:

        n, tokens, size = self.candidates, self.max_tokens, self.batches.size
        pixels = pixel_batches(images, size, self._resize, self.model.device)
        for first, batch in zip(range(0, len(images), size), pixels, strict=True):
            own = keys[first : first + len(batch)]
            drawn = uniforms(self.seed, own, candidates=n, tokens=tokens).unflatten(0, (-1, n))
            begin = partial(self._begin, batch, drawn)
            for _, texts in self.batches.run(range(len(batch)), begin):
                # dict.fromkeys: distinct, in order
                yield tuple(dict.fromkeys(text.strip() for text in texts))

    def _begin(
        self, pixels: torch.Tensor, uniform: torch.Tensor, rows: Sequence[int]
    ) -> Callable[[], list[list[str]]]:
        """The texts of some rows of (B, 3, H, W) and (B, candidates, tokens)."""
        some = slice(rows[0], rows[-1] + 1)
        texts = self._write(pixels[some], uniform[some].flatten(0, 1))
        n = self.candidates
        return lambda: [texts[at : at + n] for at in range(0, len(texts), n)]

    def _resize(self, images: Sequence[Image]) -> torch.Tensor:
        """(B, 3, H, W), uint8."""
        options = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        return self.processor.image_processor(list(images), **options)["pixel_values"]

    def _write(self, pixels: torch.Tensor, uniform: torch.Tensor) -> list[str]:
        """The texts of resized images, `candidates` of each."""
        import torch

        model = self.model
        with torch.inference_mode():
            pixels = ((pixels - self.mean) / self.std).to(model.dtype)
            states = model.vision_model(pixels)[0]  # (B, T, D)
            uniform = uniform.to(model.device)
            tokens = decode(model.text_decoder, states, uniform, top_p=self.top_p)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)


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
    """Attention from captions to their image, with the weights of `own`, a `BlipTextSelfAttention`.

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


def uniforms(seed: int, keys: Sequence[str], *, candidates: int, tokens: int) -> torch.Tensor:
    """(B * candidates, tokens) in [0, 1), those of a key side by side.

    They depend on `seed` and the key alone. The first row of each key is 0: the greedy caption.
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
