"""Prompts beyond the text encoder's tokens are counted, and refused where the label is cut off."""

from functools import partial
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from sgid.methods.guidance import fixed
from sgid.methods.method import Method
from sgid.methods.requests import RequestPlan
from sgid.stages.prompt_length import check_prompts

SD = Path(str(files("sgid") / "assets" / "models" / "sd"))  # reads 32 tokens
LONG = "a red plain shirt with short sleeves " * 8


def check(prompt: str, *captions: str, label: str = "coat", strict: bool = False) -> None:
    described: Any = [
        SimpleNamespace(key=str(number), label=0, caption=caption)
        for number, caption in enumerate(captions)
    ]
    method = Method(
        "sgid", prompt, from_image=False, strength=1.0, guidance=partial(fixed, scale=3)
    )
    images: Any = MagicMock(class_names=("coat",), __len__=lambda _: len(captions))
    plan = RequestPlan(
        images, described, np.full(len(captions), np.nan), method, {"label": [label]},
        expansion=1, seed=0, resolution=32, multiple=8,
    )  # fmt: skip
    check_prompts(plan, SD, strict=strict)


def test_short_prompts_are_whole(caplog):
    check("a photo of a {label}, {caption}", "a red shirt", "a coat", strict=True)
    assert not caplog.records


def test_what_is_cut_is_counted_with_the_place(caplog):
    check("a photo of a {label}, {caption}", "a coat", LONG, f"{LONG} b")
    (record,) = caplog.records
    assert "2 of 3 prompts are longer than the 32 tokens that text_encoder reads" in record.message
    assert "cut, as after '" in record.message and "aug.sgid.prompt" in record.message
    with pytest.raises(ValueError, match=r"2 of 3 .* dataset.strict=true stops here"):
        check("a photo of a {label}, {caption}", "a coat", LONG, f"{LONG} b", strict=True)


@pytest.mark.parametrize(
    ("prompt", "label"), [("{caption}, a {label}", "coat"), ("a {label}", LONG)]
)
def test_a_label_that_falls_off_is_refused(prompt, label):
    with pytest.raises(ValueError, match=r"the label itself is cut off. Put \{label\} before"):
        check(prompt, LONG, label=label)
