"""Prompts that are longer than the text encoders of a generator read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sgid.methods.method import Draw
from sgid.methods.prompts import TOKEN, render
from sgid.methods.requests import RequestPlan
from sgid.models.lora import tokens_per_class
from sgid.models.weights import read_json

log = logging.getLogger(__name__)


def check_prompts(plan: RequestPlan, folder: Path, *, strict: bool, toy: bool = False) -> None:
    """Warn of the prompts of a plan that the generator in `folder` would cut, and of the place.

    Of a `toy`, a model whose images of this dataset are known to be nonsense, labels may be cut.

    Raises:
        ValueError: if a prompt's label is cut, or, with `strict`, if any prompt is.
    """
    prompts = dict(_prompts(plan))
    for place in sorted(folder.glob("tokenizer*/")):
        encoder = folder / place.name.replace("tokenizer", "text_encoder")
        config = read_json(encoder / "config.json") or {}
        longest = config.get("max_position_embeddings")
        if longest is None:  # T5 and the like, which have no such limit of their own
            continue
        tokenizer = _tokenizer(place)
        texts = list(prompts)
        tokens = dict(zip(texts, tokenizer(texts)["input_ids"], strict=True)) if texts else {}
        cut = [text for text in texts if len(tokens[text]) > longest]
        if not cut:
            continue
        # With its marks of beginning and end, of which the latter stays.
        kept = {text: tokenizer.decode(tokens[text][1 : longest - 1]).strip() for text in cut}
        said = (
            f"{len(cut):,} of {len(texts):,} prompts are longer than the {longest} tokens that "
            f"{encoder.name} reads, and are cut, as after {kept[cut[0]][-40:]!r}"
        )
        option = f"aug.{plan.method.name}.prompt"
        for text in cut:
            end = prompts[text]
            if end and not toy and len(tokenizer(text[:end])["input_ids"]) > longest:
                raise ValueError(
                    f"{said}; of {text!r} the label itself is cut off. Put {{label}} before "
                    f"{{caption}} in {option} (now {plan.method.prompt!r}), or take a lower "
                    "models.captioner.max_tokens, or shorter class names (dataset.classes=FILE)"
                )
        said += f". A shorter {option}, or a lower models.captioner.max_tokens, leaves them whole"
        if strict:
            raise ValueError(f"{said}; dataset.strict=true stops here")
        log.warning(said)


def _prompts(plan: RequestPlan) -> list[tuple[str, int]]:
    """Each prompt, and where its label ends; 0 where it has none."""
    longest = max(range(len(plan.phrases)), key=lambda label: len(plan.phrases[label]))
    found, vectors = [], tokens_per_class(plan.tokens) if plan.tokens else 0
    for sample in range(len(plan.images)):
        described = plan.described[sample]
        label = described.label if plan.method.target is None else longest
        drawn: set[str] = set()
        for repeat in range(len(plan.rows(sample))):
            draw = Draw(plan.seed, described.key, repeat)
            template = plan.template(label, draw)
            texts = plan.texts(label, plan.caption(sample, label, draw))
            if TOKEN in texts:  # as many words of one token
                texts[TOKEN] = " ".join(["a"] * vectors)
            prompt = render(template, **texts)
            if prompt in drawn:
                continue
            drawn.add(prompt)
            before, field, _ = template.partition("{label}")
            head = render(before + field, **texts)
            found.append((prompt, len(head) if field else 0))
    return found


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()  # it advises to cut what is too long
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
