"""Candidate captions of an image: BLIP (Li et al., ICML 2022), greedy and nucleus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from sgid.batching import Batches
from sgid.semantics.pixels import pixel_batches

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


MEND = (
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

        from sgid.semantics.attention import fuse

        self.candidates = candidates
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.seed = seed
        self.batches = Batches(batch_size, mend=MEND)
        self.processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
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

        from sgid.semantics.decoding import decode

        model = self.model
        with torch.inference_mode():
            pixels = ((pixels - self.mean) / self.std).to(model.dtype)
            states = model.vision_model(pixels)[0]  # (B, T, D)
            uniform = uniform.to(model.device)
            tokens = decode(model.text_decoder, states, uniform, top_p=self.top_p)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)
