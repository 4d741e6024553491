"""Candidate captions of an image: BLIP (Li et al., ICML 2022), greedy and nucleus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from sgid.seeding import derive_seed

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
    share its batch: each candidate draws from a generator of its own (Gumbel-max sampling).

    Args:
        folder: a `BlipForConditionalGeneration` with its processor.
        candidates: captions per image, at least 1.
        top_p: probability mass that nucleus sampling keeps, in (0, 1].
        max_tokens: longest caption, in tokens.
        batch_size: images per forward pass.
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
        from transformers import AutoProcessor, BlipForConditionalGeneration

        self.candidates = candidates
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.seed = seed
        self.batch_size = batch_size
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model: Any = BlipForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        self.model: Any = model.to(device).eval()

    def __call__(self, images: Sequence[Image], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        for start in range(0, len(images), self.batch_size):
            stop = start + self.batch_size
            yield from self._caption(images[start:stop], keys[start:stop])

    def _caption(self, images: Sequence[Image], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        import torch
        from transformers import LogitsProcessorList, TopPLogitsWarper

        model, n = self.model, self.candidates
        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        seeds = [derive_seed(self.seed, "caption", key, i) for key in keys for i in range(n)]
        with torch.inference_mode():
            # The image is encoded once for all its candidates: (B, T, D) -> (B * n, T, D)
            states = model.vision_model(pixels.to(model.device, model.dtype))[0]
            states = states.repeat_interleave(n, dim=0)
            text = model.config.text_config
            tokens = model.text_decoder.generate(
                input_ids=torch.full((len(seeds), 1), text.bos_token_id, device=model.device),
                encoder_hidden_states=states,
                encoder_attention_mask=torch.ones(states.shape[:-1], device=model.device),
                eos_token_id=text.sep_token_id,
                pad_token_id=text.pad_token_id,
                do_sample=False,
                max_new_tokens=self.max_tokens,
                logits_processor=LogitsProcessorList(
                    [TopPLogitsWarper(self.top_p), SeededGumbel(seeds, greedy_every=n)]
                ),
            )
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        for start in range(0, len(texts), n):
            # dict.fromkeys: distinct, in order
            yield tuple(dict.fromkeys(text.strip() for text in texts[start : start + n]))


@final
class SeededGumbel:
    """A logits processor that turns greedy decoding into sampling, row by row.

    argmax(log p + Gumbel noise) is a sample of p; the noise of row i comes from a generator seeded
    with `seeds[i]`. Every `greedy_every`-th row gets no noise and stays greedy.
    """

    def __init__(self, seeds: Sequence[int], *, greedy_every: int) -> None:
        import torch

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.greedy_every = greedy_every

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        noise = torch.zeros(scores.shape)  # (rows, vocabulary)
        for row, generator in enumerate(self.generators):
            if row % self.greedy_every:
                uniform = torch.rand(scores.shape[1], generator=generator)
                noise[row] = -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-7)))
        return scores.float() + noise.to(scores.device)
