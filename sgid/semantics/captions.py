"""Candidate captions of an image: BLIP (Li et al., ICML 2022), greedy and nucleus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from sgid.semantics.pixels import pixel_batches

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


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
        batch_size: images per forward pass.

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

        from sgid.semantics.attention import fuse

        self.candidates = candidates
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.seed = seed
        self.batch_size = batch_size
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model: Any = BlipForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
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
        from sgid.semantics.decoding import uniforms

        n, tokens = self.candidates, self.max_tokens
        pixels = pixel_batches(images, self.batch_size, self._resize, self.model.device)
        for start, batch in zip(range(0, len(images), self.batch_size), pixels, strict=True):
            own = keys[start : start + len(batch)]
            texts = self._write(batch, uniforms(self.seed, own, candidates=n, tokens=tokens))
            for first in range(0, len(texts), n):
                # dict.fromkeys: distinct, in order
                yield tuple(dict.fromkeys(text.strip() for text in texts[first : first + n]))

    def _resize(self, images: Sequence[Image]) -> torch.Tensor:
        """(B, 3, H, W), uint8."""
        options = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        return self.processor.image_processor(list(images), **options)["pixel_values"]

    def _write(self, pixels: torch.Tensor, uniform: torch.Tensor) -> list[str]:
        """The texts of resized images, `candidates` of each."""
        import torch

        from sgid.semantics.decoding import decode

        model = self.model
        with torch.inference_mode():
            pixels = ((pixels - self.mean) / self.std).to(model.dtype)
            states = model.vision_model(pixels)[0]  # (B, T, D)
            uniform = uniform.to(model.device)
            tokens = decode(model.text_decoder, states, uniform, top_p=self.top_p)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)
