"""A whole run on a folder with every damaged, hostile and strange image that we know of."""

from __future__ import annotations

import html
import os

import pyarrow.parquet as pq
import pytest

from sgid.data.listing import commands
from tests.data.images import CLASSES, bad, good, strange_names
from tests.data.writers import write_folder
from tests.end_to_end.command import SHORT

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def hostile(tmp_path):
    """The class names are hostile as well; so is the name of the folder around them."""
    names = (*CLASSES, HOSTILE, "\x1b[2J\x1b[31mred")
    root = write_folder(tmp_path / "[red]my $(images)", {name: 7 for name in names}, size=32)
    folder = root / CLASSES[0]
    for name, data in {**good(), **bad()}.items():
        (folder / name).write_bytes(data)
    strange_names(folder)
    os.mkfifo(folder / "pipe.jpg")
    os.symlink("self.jpg", folder / "self.jpg")
    os.symlink("/dev/zero", folder / "device.jpg")
    os.symlink("..", folder / "up")
    return root


def outside(place) -> set[str]:
    own = {place.artifacts, place.results, place.top / "hydra", place.top / "home"}
    return {
        os.fsencode(path).decode("utf-8", "backslashreplace")
        for path in place.top.rglob("*")
        if not any(path.is_relative_to(folder) for folder in own)
    }


def test_every_image_is_used_or_named_and_nothing_else_happens(place, hostile, capfd):
    before = outside(place)
    done = place.run(
        "dataset=folder", f"dataset.root='{hostile}'", "models=tiny", "backbone=small_resnet",
        *SHORT, "dataset.max_bad=0.5",
    ).good()  # fmt: skip
    assert outside(place) == before
    text = done.text + "".join(capfd.readouterr())  # of libraries in C as well
    assert "Traceback" not in text and "\x1b" not in text
    result = place.result()
    told = result["protocol"]["left_out"]
    assert told["count"] == len([name for name in bad() if not name.endswith(".eps")]) + 1
    assert "unreadable" in done.text and told["first"][0] in done.text.replace("\n", "")

    (file,) = place.artifacts.glob("generated/*/part-*.parquet")
    rows = pq.read_table(file, columns=["key", "class_name", "prompt"]).to_pylist()
    keys = {row["key"].rpartition("/")[2] for row in rows}
    assert not {name for name in bad()} & keys
    assert not any(commands(row["key"] + row["class_name"] + row["prompt"]) for row in rows)
    assert any("{label}" in row["prompt"] for row in rows if row["class_name"] == "{label}")

    page = (place.results / result["fingerprint"] / "report.html").read_text()
    for name in (CLASSES[0], HOSTILE):
        assert name not in page and html.escape(name) in page
