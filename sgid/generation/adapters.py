"""Learned tokens and LoRAs of images, in and out of a pipeline between batches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypeAlias, final

from sgid.models.lora import Saved, merge, restore, text_encoders
from sgid.records import Adapter

Concepts: TypeAlias = "tuple[Path | None, tuple[Adapter, ...]]"
"""The file of learned tokens, and the LoRAs, that images are drawn with."""


@final
class LoadedConcepts:
    """The learned tokens and LoRAs that a pipeline holds at the moment.

    Tokens are loaded by diffusers' `load_textual_inversion`: they are new rows of the embedding,
    and the others stay as they are. LoRAs are merged into the weights, which come back bit for bit:
    what is drawn without them is as if they had never been there.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.tokens: Path | None = None
        self.adapters: tuple[Adapter, ...] = ()
        self._saved: Saved = []
        self._before: list[tuple[str, Any, Any]] = []

    def use(self, concepts: Concepts) -> None:
        """Load these, and let go of others."""
        tokens, adapters = concepts
        if adapters != self.adapters:
            restore(self._saved)
            self._saved, self.adapters = [], ()
            self._saved = merge(self.pipe, adapters)
            self.adapters = adapters
        if tokens != self.tokens:
            self._forget_tokens()
            if tokens is not None:
                self._load_tokens(tokens)
            self.tokens = tokens

    def _load_tokens(self, file: Path) -> None:
        from safetensors.torch import load_file

        vectors = load_file(file)
        for name, encoder, tokenizer in text_encoders(self.pipe):
            own = {one.partition("/")[2]: v for one, v in vectors.items() if _is_of(name, one)}
            # What is resized is the parameter itself: this goes on to hold the old numbers.
            self._before.append((name, tokenizer, encoder.get_input_embeddings().weight.detach()))
            extended = copy.deepcopy(tokenizer)
            self.pipe.load_textual_inversion(
                [{token: vector} for token, vector in own.items()],
                tokenizer=extended, text_encoder=encoder,
            )  # fmt: skip
            setattr(self.pipe, name.replace("text_encoder", "tokenizer"), extended)

    def _forget_tokens(self) -> None:
        while self._before:
            name, tokenizer, weight = self._before.pop()
            encoder = getattr(self.pipe, name)
            embedding = encoder.get_input_embeddings()
            embedding.weight.data, embedding.num_embeddings = weight, len(weight)
            encoder.config.vocab_size = len(weight)
            setattr(self.pipe, name.replace("text_encoder", "tokenizer"), tokenizer)
        self.tokens = None


def _is_of(encoder: str, name: str) -> bool:
    return name.startswith(f"{encoder}/")
