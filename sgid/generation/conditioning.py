"""What the denoising network is told of a prompt: Stable Diffusion 1, 2 and XL.

XL differs in two ways: its second text encoder also gives one vector for the whole prompt, and the
network is told the size of the image (Podell et al., 2023, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Text:
    """One prompt: a state for each token, (T, D), and with XL one for the whole, (P,)."""

    tokens: torch.Tensor
    whole: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + (0 if self.whole is None else self.whole.nbytes)


def encode(pipe: Any, prompts: Sequence[str]) -> list[Text]:
    """The texts of prompts, in one batch."""
    # SD gives (tokens, negative), XL (tokens, negative, whole, negative whole).
    tokens, _, *more = pipe.encode_prompt(
        list(prompts),
        device=pipe.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    wholes = more[0] if more else [None] * len(prompts)
    # Copies, since one that is kept would keep its whole batch.
    return [
        Text(one.clone(), None if whole is None else whole.clone())
        for one, whole in zip(tokens, wholes, strict=True)
    ]


def encode_none(pipe: Any) -> Text:
    """What guidance leads away from: the empty prompt; with most XL models, zeros in its place."""
    (empty,) = encode(pipe, [""])
    if empty.whole is None or not pipe.config.force_zeros_for_empty_prompt:
        return empty
    return Text(
        empty.tokens.new_zeros(empty.tokens.shape), empty.whole.new_zeros(empty.whole.shape)
    )


def unet_arguments(texts: Sequence[Text], *, width: int, height: int) -> dict[str, Any]:
    """The UNet's keyword arguments for a batch of images of `width` x `height` pixels."""
    import torch

    tokens = torch.stack([text.tokens for text in texts])  # (B, T, D)
    wholes = [text.whole for text in texts if text.whole is not None]
    if not wholes:
        return {"encoder_hidden_states": tokens}
    # Original size, offset of the crop, size to draw: an image that is whole and not resized.
    sizes = tokens.new_tensor([height, width, 0, 0, height, width]).expand(len(texts), -1)
    more = {"text_embeds": torch.stack(wholes), "time_ids": sizes}  # (B, P), (B, 6)
    return {"encoder_hidden_states": tokens, "added_cond_kwargs": more}
