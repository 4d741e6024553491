"""How well a text fits an image: cosine similarity of CLIP embeddings (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image


@final
class OpenClipScorer:
    """Embeds images and texts with a CLIP that open_clip loads from `folder`.

    Embeddings have unit length, so that a dot product is the cosine.
    """

    def __init__(
        self, folder: Path, *, batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        import open_clip

        name = f"local-dir:{folder}"
        model, _, preprocess = open_clip.create_model_and_transforms(name)
        self.model: Any = model.to(device, dtype).eval()
        self.preprocess: Any = preprocess
        self.tokenize = open_clip.get_tokenizer(name)
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def embed_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""
        import torch

        def encode(batch: Sequence[Image]) -> torch.Tensor:
            pixels = torch.stack([self.preprocess(image) for image in batch])  # (B, 3, H, W)
            return self.model.encode_image(pixels.to(self.device, self.dtype))

        return self._embed(images, encode)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""
        return self._embed(
            texts, lambda batch: self.model.encode_text(self.tokenize(list(batch)).to(self.device))
        )

    def _embed(self, items, encode) -> NDArray[np.float32]:
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(items), self.batch_size):
                vectors = encode(items[start : start + self.batch_size]).float()
                parts.append(torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
