"""Small tokenizers of the real classes, that read any text: known words whole, others by letter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import BertTokenizer, CLIPTokenizer

MAX_LENGTH = 32


def clip_tokenizer(folder: Path, words: Sequence[str]) -> CLIPTokenizer:
    """CLIP's byte-level BPE with the merges that make each of the words one token.

    Merges are ordered so that they never compete: those of two letters first, and a word's own
    prefixes are merged from the left. As in CLIP, start and end tokens have the highest ids.
    """
    letters = sorted(ByteLevel.alphabet())
    tokens = letters + [f"{letter}</w>" for letter in letters]
    merges = _merges(words)
    tokens += ["".join(pair) for pair in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]  # two ways to one token
    _begin(folder)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_LENGTH)
    tokenizer.save_pretrained(folder)
    for word in words:
        ids = tokenizer(word)["input_ids"]
        assert len(ids) == 3, f"{word!r} is {len(ids) - 2} tokens"
    return tokenizer


def tokenize(tokenizer: Callable, texts: list[str]) -> Tensor:
    """(B, MAX_LENGTH) ids, padded with the end token as Stable Diffusion does."""
    return tokenizer(
        texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def _begin(folder: Path) -> None:
    """An existing or new folder without what a tokenizer saved there: it would be read first."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink(missing_ok=True)


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """BPE merges learnt on the words until each is one token (Sennrich et al., 2016)."""
    split = {word: [*word[:-1], f"{word[-1]}</w>"] for word in words}
    merges = []
    while any(len(parts) > 1 for parts in split.values()):
        pairs = Counter(
            pair for parts in split.values() for pair in zip(parts, parts[1:], strict=False)
        )
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        for word, parts in split.items():
            merged = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            split[word] = merged
    return merges


def bert_tokenizer(folder: Path, words: Sequence[str]) -> BertTokenizer:
    """BERT's WordPiece over the known words and single characters; `[DEC]` starts a caption."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    known = [word for word in words if len(word) > 1]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    tokens += characters + [f"##{character}" for character in characters] + known
    _begin(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return BertTokenizer.from_pretrained(
        folder, model_max_length=MAX_LENGTH, additional_special_tokens=["[DEC]"]
    )
