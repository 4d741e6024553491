"""BLIP large and CLIP ViT-B/32 with random weights, in the files of real ones: for timing alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def random_blip(folder: Path) -> Path:
    """A BLIP of the large one's shapes, with random weights and made-up words."""
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    # Special tokens where BLIP has them: [PAD] 0, [SEP] 102, [DEC] 30522.
    words = [f"{a}{b}" for a in _syllables() for b in _syllables()]
    vocabulary = {word: i for i, word in enumerate(words[:30524])}
    special = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, "[DEC]": 30522}
    vocabulary = {word: i for word, i in vocabulary.items() if i not in special.values()} | special
    tokenizer = BertTokenizer(vocab=vocabulary, additional_special_tokens=["[DEC]"])
    image_processor = BlipImageProcessor(size={"height": 384, "width": 384})
    BlipProcessor(image_processor, tokenizer).save_pretrained(folder)

    text = {"vocab_size": 30524, "encoder_hidden_size": 1024}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    vision |= {"num_attention_heads": 16, "image_size": 384, "initializer_range": 0.02}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=256)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


def random_clip(folder: Path) -> Path:
    """A CLIP ViT-B/32 with random weights."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(0)
    model: Any = open_clip.create_model("ViT-B-32")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def _syllables() -> list[str]:
    return [a + b + c for a in "bdfklmnprst" for b in "aeiou" for c in "lnrst"][:200]
