"""What prompts say and what originals are in latents, computed once for all who ask for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

from sgid.batching import Batches
from sgid.generation.autoencoder import Autoencoder
from sgid.generation.conditioning import Text, encode, encode_none
from sgid.generation.kept import Kept

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LIMIT = 512 * 2**20
"""Bytes of texts, and of latents, that are kept for later."""


@final
class Known:
    """Texts of prompts and VAE posteriors of images, on the device.

    They outlive a call, a store and a run: all repeats of an original share them, and so do the
    noise rates and guidance scales of a sweep. Those used longest ago are let go beyond `LIMIT`.
    """

    def __init__(self, pipe: Any, autoencoder: Autoencoder) -> None:
        self.pipe = pipe
        self.autoencoder = autoencoder
        self.forget()

    def forget(self) -> None:
        """Let go of all."""
        self._texts = Kept[str | None, Text](LIMIT, lambda text: text.nbytes)
        self._posteriors = Kept[bytes, "torch.Tensor"](LIMIT, lambda tensor: tensor.nbytes)

    def texts(self, prompts: Iterable[str], *, batches: Batches) -> dict[str | None, Text]:
        """Those of the prompts; under `None`, what guidance leads away from."""
        import torch

        def start(batch: Sequence[str | None]) -> Callable[[], list[Text]]:
            with torch.inference_mode():
                given = [prompt for prompt in batch if prompt is not None]
                texts = encode(self.pipe, given) if given else [encode_none(self.pipe)]
            return lambda: texts

        def compute(missing: list[str | None]) -> Iterator[tuple[str | None, Text]]:
            return batches.lesser().run(missing, start, alike=lambda prompt: prompt is None)

        return self._texts.get([None, *prompts], compute)

    def posteriors(self, images: Sequence[Image], *, batches: Batches) -> dict[int, torch.Tensor]:
        """Mean and deviation (2, C, h, w) of each image's latents, by its `id`.

        Equal images are one, whichever request brings them.
        """
        import torch

        digests = {id(image): _digest(image) for image in {id(one): one for one in images}.values()}
        by_digest = {digests[id(image)]: image for image in images}

        def start(batch: Sequence[bytes]) -> Callable[[], list[torch.Tensor]]:
            with torch.inference_mode():
                posteriors = self.autoencoder.posteriors([by_digest[one] for one in batch])
            # Copies, since one that is kept would keep its whole batch.
            return lambda: [one.clone() for one in posteriors]

        def compute(missing: list[bytes]) -> Iterator[tuple[bytes, torch.Tensor]]:
            return batches.lesser().run(missing, start, alike=lambda digest: by_digest[digest].size)

        found = self._posteriors.get(digests.values(), compute)
        return {key: found[digest] for key, digest in digests.items()}


def _digest(image: Image) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.size).encode()).digest()
