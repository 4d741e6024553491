"""Captions beside images: found as they lie, as Hugging Face's own reader finds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgid.data.captions import read_captions
from sgid.data.sources.folder import folder
from tests.data.writers import write_folder


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", {"bag": 3, "coat": 2})


def captions_of(top: Path) -> dict[str, tuple[str, ...]]:
    images = {path.relative_to(top).as_posix(): path for path in sorted(top.glob("*/*.png"))}
    return read_captions(images, top)


def test_text_files_beside_their_images_a_caption_a_line(top):
    (top / "bag" / "00.txt").write_text("\ufeffa red bag \n\n a  bag on a table\n", "utf-8")
    (top / "bag" / "notes.txt").write_text("of no image")
    (top / "coat" / "01.txt").write_text("\n")
    assert captions_of(top) == {"bag/00.png": ("a red bag", "a bag on a table")}


def rows(top: Path, name: str, lines: list[str]) -> Path:
    (top / name).write_text("\n".join(lines), encoding="utf-8")
    return top / name


@pytest.mark.parametrize("column", ["text", "caption"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tables_in_any_folder_from_the_image_up(top, form, column):
    def table(folder: Path, given: dict[str, str]) -> None:
        lines = [json.dumps({"file_name": name, column: text}) for name, text in given.items()]
        if form == "csv":
            lines = [f"file_name,{column}", *(f'{name},"{text}"' for name, text in given.items())]
        rows(folder, f"metadata.{form}", lines)

    table(top, {"bag/00.png": "a red bag, open", "coat/00.png": "a coat", "gone.png": "nothing"})
    table(top / "coat", {"00.png": "a long coat", "01.png": ""})
    (top / "coat" / "00.txt").write_text("a coat")
    assert captions_of(top) == {
        "bag/00.png": ("a red bag, open",),
        "coat/00.png": ("a coat", "a long coat"),  # once, the file's first
    }


def test_captions_of_several_lines_are_read_whole(top):
    """As spreadsheets write them; JSON may hold separators that are no ends of lines."""
    rows(top, "metadata.csv", ["file_name,text", 'bag/00.png,"a red\r\nbag"', "coat/00.png,coat\r"])
    line = {"file_name": "bag/01.png", "text": "a bag\u2028and\x85more"}
    rows(top, "metadata.jsonl", [json.dumps(line, ensure_ascii=False)])
    told = captions_of(top)
    assert told["bag/00.png"] == ("a red bag",) and told["coat/00.png"] == ("coat",)
    assert told["bag/01.png"] == ("a bag and more",)


def test_a_list_in_a_line_is_several_captions(top):
    rows(top, "metadata.jsonl", ['{"file_name": "bag/00.png", "caption": ["one", "two", "one"]}'])
    assert captions_of(top) == {"bag/00.png": ("one", "two")}


def test_as_the_imagefolder_of_datasets_reads_them(top):
    from datasets import Image, load_dataset

    given = {path.relative_to(top).as_posix(): f"text of {path.stem}" for path in top.glob("*/*")}
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in given.items()]
    rows(top, "metadata.jsonl", lines)
    theirs = load_dataset(
        "imagefolder", data_dir=str(top), split="train", cache_dir=str(top.parent / "cache")
    ).cast_column("image", Image(decode=False))
    there = {Path(row["image"]["path"]).relative_to(top).as_posix(): row["text"] for row in theirs}
    assert {key: texts[0] for key, texts in captions_of(top).items()} == there == given


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("metadata.csv", ["file,text", "bag/00.png,x"], "row 2 has no file_name"),
        ("metadata.csv", ["file_name,label", "bag/00.png,x"], "no column text or caption; it has"),
        ("metadata.csv", ["file_name,text", "a.png,x", "a.png,y"], "names a.png a second time"),
        ("metadata.csv", ["file_name,text", 'a.png,"x'], "is no table"),
        ("metadata.jsonl", ['{"file_name": "a.png", "text": "x"}', "{"], "metadata.jsonl, line 2"),
        ("metadata.jsonl", ["[1]"], "line 1 is no object"),
        ("metadata.jsonl", ['{"file_name": "a.png", "text": 7}'], "a caption is a text"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(top, name, lines, said):
    path = rows(top, name, lines)
    with pytest.raises(ValueError, match=r"dataset\.captions: ") as error:
        captions_of(top)
    assert said in str(error.value) and str(path) in str(error.value)


def test_bytes_that_are_not_utf8_are_named(top):
    (top / "bag" / "00.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"00\.txt is not UTF-8"):
        captions_of(top)


def test_a_folder_reads_them_where_they_are_asked_for(top):
    (top / "bag" / "00.txt").write_text("a red bag")
    assert folder(str(top)).captions == {}
    assert folder(str(top), captions="own").captions == {"bag/00.png": ("a red bag",)}
