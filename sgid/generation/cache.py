"""Cache of prompt embeddings, VAE posteriors and image embeddings, shared by all requests."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from sgid.generation.autoencoder import Autoencoder
from sgid.generation.denoising import PromptEmbedding, encode_negative_prompt, encode_prompts
from sgid.generation.memory import put_aside
from sgid.runtime.batching import AdaptiveBatcher

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sgid.generation.image_prompt import ImageEmbedding, ImagePrompts

T = TypeVar("T")

LIMIT = 512 * 2**20
"""Bytes of texts, and of latents, that are kept for later."""


@final
class ConditioningCache:
    """Texts of prompts and VAE posteriors of images, on the device.

    They outlive a call, a store and a run: all repeats of an original share them, and so do the
    noise rates and guidance scales of a sweep. All that a call asks for is kept together and never
    shared with another one: what is in a batch decides the last bits of each, and these must not
    hang on what this process has drawn before. Calls used longest ago are let go beyond `LIMIT`.
    """

    def __init__(self, pipe: Any, autoencoder: Autoencoder) -> None:
        self.pipe = pipe
        self.autoencoder = autoencoder
        self.forget()

    def forget(self) -> None:
        """Let go of all."""
        self._texts = LRUCache[Hashable, dict[str | None, PromptEmbedding]](LIMIT, _bytes)
        self._embeddings = LRUCache[tuple[bytes, ...], "dict[bytes, ImageEmbedding]"](LIMIT, _bytes)
        self._posteriors = LRUCache[tuple[bytes, ...], "dict[bytes, torch.Tensor]"](LIMIT, _bytes)

    def texts(
        self, prompts: Iterable[str], *, batches: AdaptiveBatcher, concepts: Hashable = None
    ) -> dict[str | None, PromptEmbedding]:
        """Embeddings of the prompts; under `None`, what guidance leads away from.

        `concepts` are the tokens and LoRAs that they are encoded with.
        """
        import torch

        distinct = tuple(dict.fromkeys(prompts))

        def start(batch: Sequence[str | None]) -> Callable[[], list[PromptEmbedding]]:
            with torch.inference_mode():
                given = [prompt for prompt in batch if prompt is not None]
                texts = (
                    encode_prompts(self.pipe, given)
                    if given
                    else [encode_negative_prompt(self.pipe)]
                )
            return lambda: texts

        def compute() -> dict[str | None, PromptEmbedding]:
            wanted: list[str | None] = [None, *distinct]
            run = batches.child().run(wanted, start, alike=lambda prompt: prompt is None)
            found = dict(run)
            put_aside(self.pipe)  # the text encoders, where parts take turns
            return found

        return self._texts.get((concepts, distinct), compute)

    def posteriors(
        self, images: Sequence[Image], *, batches: AdaptiveBatcher
    ) -> dict[int, torch.Tensor]:
        """Mean and deviation (2, C, h, w) of each image's latents, by its `id`.

        Equal images are one, whichever request brings them.
        """
        import torch

        def encode(images: Sequence[Image]) -> list[torch.Tensor]:
            with torch.inference_mode():
                posteriors = self.autoencoder.posteriors(images)
            # Copies, since one that is kept would keep its whole batch.
            return [one.clone() for one in posteriors]

        found = _of_images(images, self._posteriors, encode, batches, alike=lambda one: one.size)
        put_aside(self.pipe)
        return found

    def image_embeddings(
        self, images: Sequence[Image], prompts: ImagePrompts, *, batches: AdaptiveBatcher
    ) -> dict[int, ImageEmbedding]:
        """Embeddings of images for an IP-Adapter, by their `id`; equal images are one."""
        import torch

        def encode(images: Sequence[Image]) -> list[ImageEmbedding]:
            with torch.inference_mode():
                return prompts.embed(images)

        return _of_images(images, self._embeddings, encode, batches, alike=lambda _: None)


def _of_images(
    images: Sequence[Image],
    known: LRUCache[tuple[bytes, ...], dict[bytes, T]],
    encode: Callable[[Sequence[Image]], list[T]],
    batches: AdaptiveBatcher,
    *,
    alike: Callable[[Image], Hashable],
) -> dict[int, T]:
    """Encode each distinct image once, those `alike` in a batch; results by the `id` of all."""
    digests = {id(image): _digest(image) for image in {id(one): one for one in images}.values()}
    by_digest = {digests[id(image)]: image for image in images}

    def start(batch: Sequence[bytes]) -> Callable[[], list[T]]:
        encoded = encode([by_digest[one] for one in batch])
        return lambda: encoded

    def compute() -> dict[bytes, T]:
        run = batches.child().run(
            list(by_digest), start, alike=lambda digest: alike(by_digest[digest])
        )
        return dict(run)

    found = known.get(tuple(by_digest), compute)
    return {key: found[digest] for key, digest in digests.items()}


def _bytes(values: Mapping[Any, PromptEmbedding | ImageEmbedding | torch.Tensor]) -> int:
    return sum(value.nbytes for value in values.values())


def _digest(image: Image) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.size).encode()).digest()


Key = TypeVar("Key", bound=Hashable)


Value = TypeVar("Value")


@final
class LRUCache(Generic[Key, Value]):
    """Values by key; those used longest ago go first when they are more than `limit` bytes."""

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit = limit
        self.size = size
        self.used = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, compute: Callable[[], Value]) -> Value:
        """The value of `key`, computed if it is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = compute()
        self.used += self.size(value)
        while self.used > self.limit:
            _, oldest = self._values.popitem(last=False)
            self.used -= self.size(oldest)
        return value
