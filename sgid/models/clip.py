"""CLIP scorer: cosine similarity of an image and a text (Radford et al., 2021)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np

from sgid.data.decode import centre
from sgid.runtime.batching import AdaptiveBatcher
from sgid.runtime.threads import pixel_batches

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image


HINT = (
    "take models.scorer.dtype=float16 (or bfloat16), another models.scorer.weights, or another "
    "trainer.device"
)


T = TypeVar("T")


@final
class OpenClipScorer:
    """Embeds images and texts with a CLIP that open_clip loads from `folder`.

    Embeddings have unit length, so that a dot product is the cosine. `batch_size` is halved, for
    good, when memory runs out.
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
        self.model = model.to(device, dtype).eval().requires_grad_(False)
        # What a CPU does to each image, and what is left for the device to do to a batch.
        *shape, _to_tensor, self.normalize = preprocess.transforms
        self.shape: Any = Compose([*shape, PILToTensor()])
        self.tokenize = clip_tokenizer(folder)
        self.batches = AdaptiveBatcher(batch_size, hint=HINT)
        self.device = device
        self.dtype = dtype

    def embed_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""
        import torch

        def shaped(some: Sequence[Image]) -> torch.Tensor:
            return torch.stack([self.shape(centre(image)) for image in some])  # (B, 3, H, W), uint8

        def encode(pixels: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
            some = pixels[rows[0] : rows[-1] + 1]
            return self.model.encode_image(self.normalize(some / 255).to(self.dtype))

        batches = pixel_batches(images, self.batches.size, shaped, self.device)
        parts = (self._embed(range(len(one)), partial(encode, one)) for one in batches)
        return _fetched([row for part in parts for row in part])

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit features (B, D) of square images (B, 3, H, W) in [-1, 1], which autograd can follow.

        They are resized as `embed_images` does it, on the device and without rounding.
        """
        import torch

        side = self.model.visual.image_size
        side = side if isinstance(side, tuple) else (side, side)
        shares = (pixels.to(self.dtype) * 0.5 + 0.5).clamp(0, 1)
        if shares.shape[-2:] != side:
            shares = torch.nn.functional.interpolate(
                shares, side, mode="bicubic", antialias=True, align_corners=False
            )
        rows = self.model.encode_image(self.normalize(shares))
        return torch.nn.functional.normalize(rows, dim=-1)

    @property
    def logit_scale(self) -> float:
        """The factor of cosines in the logits that the model was trained with."""
        return float(self.model.logit_scale.detach().exp())

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""

        def encode(some: Sequence[str]) -> torch.Tensor:
            return self.model.encode_text(self.tokenize(list(some)).to(self.device))

        return _fetched(list(self._embed(texts, encode)))

    def _embed(
        self, items: Sequence[T], encode: Callable[[Sequence[T]], torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """A unit vector (D,) on the device for each item."""
        import torch

        def begin(some: Sequence[T]) -> Callable[[], Sequence[torch.Tensor]]:
            with torch.inference_mode():
                rows = encode(some)
                wide = rows if rows.dtype == torch.float64 else rows.float()
                unit = torch.nn.functional.normalize(wide, dim=-1).float().unbind()
            return lambda: unit

        return (row for _, row in self.batches.run(items, begin))


def clip_tokenizer(folder: Path) -> Any:
    """The tokenizer of a CLIP that open_clip loads. Code that lies in the folder is not run."""
    import open_clip

    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    # open_clip's own tokenizer has no such argument; that of transformers has.
    theirs = config.get("text_cfg", {}).get("hf_tokenizer_name")
    words: Any = {"trust_remote_code": False} if theirs else {}
    return open_clip.get_tokenizer(f"local-dir:{folder}", **words)


def _fetched(rows: Sequence[torch.Tensor]) -> NDArray[np.float32]:
    """(N, D), fetched at once: the device never waits between batches."""
    import torch

    return torch.stack(list(rows)).cpu().numpy() if rows else np.zeros((0, 0), np.float32)
