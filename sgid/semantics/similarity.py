"""How well a text fits an image: cosine similarity of CLIP embeddings (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np

from sgid.semantics.pixels import pixel_batches

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image


T = TypeVar("T")


@final
class OpenClipScorer:
    """Embeds images and texts with a CLIP that open_clip loads from `folder`.

    Embeddings have unit length, so that a dot product is the cosine.
    """

    def __init__(
        self, folder: Path, *, batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        import open_clip
        from torchvision.transforms import Compose, PILToTensor

        name = f"local-dir:{folder}"
        model: Any
        preprocess: Any
        model, _, preprocess = open_clip.create_model_and_transforms(name)
        self.model = model.to(device, dtype).eval()
        # What a CPU does to each image, and what is left for the device to do to a batch.
        *shape, _to_tensor, self.normalize = preprocess.transforms
        self.shape: Any = Compose([*shape, PILToTensor()])
        self.tokenize = open_clip.get_tokenizer(name)
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def embed_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""
        import torch

        def shaped(some: Sequence[Image]) -> torch.Tensor:
            return torch.stack([self.shape(image) for image in some])  # (B, 3, H, W), uint8

        def encode(pixels: torch.Tensor) -> torch.Tensor:
            return self.model.encode_image(self.normalize(pixels / 255).to(self.dtype))

        return self._embed(pixel_batches(images, self.batch_size, shaped, self.device), encode)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""
        size = self.batch_size
        batches = (list(texts[at : at + size]) for at in range(0, len(texts), size))
        return self._embed(
            batches, lambda batch: self.model.encode_text(self.tokenize(batch).to(self.device))
        )

    def _embed(
        self, batches: Iterable[T], encode: Callable[[T], torch.Tensor]
    ) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            parts = [torch.nn.functional.normalize(encode(one).float(), dim=-1) for one in batches]
            # Fetched once: the device never waits between batches.
            return torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 0), np.float32)
