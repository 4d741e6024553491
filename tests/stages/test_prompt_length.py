"""Prompts beyond the text encoder's tokens are counted, and refused where the label is cut off."""

from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgid.stages.prompt_length import check_prompts

SD = Path(str(files("sgid") / "assets" / "models" / "sd"))  # reads 32 tokens
LONG = "a red plain shirt with short sleeves " * 8


def check(prompt: str, *captions: str, label: str = "coat", strict: bool = False) -> None:
    described = [SimpleNamespace(label=0, caption=caption) for caption in captions]
    method = SimpleNamespace(name="sgid", prompt=prompt, target=None)
    plan = SimpleNamespace(images=captions, described=described, method=method, phrases=[label])
    check_prompts(plan, SD, strict=strict)  # type: ignore[arg-type]


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
