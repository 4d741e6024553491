"""Every dataset, read from its own format on disk; three go through a whole run."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.formats import WRITERS, on_disk
from tests.end_to_end.command import SHORT

WHOLE = ("cars", "cub", "hub")
"""After the scan a run knows no formats: sets with a split of theirs, one without, a hub's rows."""


def options(name: str, root) -> list[str]:
    own = ("train_per_class=8",) if name == "caltech101" else ()
    return [f"dataset={name}", f"dataset.root={root}", *(f"dataset.{one}" for one in own)]


def class_names(written) -> set[str]:
    return {class_name for part in written.values() for class_name, _ in part.values()}


@pytest.mark.parametrize("name", WRITERS)
def test_it_is_read_and_shown(place, tmp_path, name):
    root = tmp_path / "set"
    with on_disk(name, root) as written:
        shown = place.run("stage=data", *options(name, root)).good()
    assert f"{len(class_names(written)):,} classes, in prompts:" in shown.out
    assert (place.artifacts / "data" / f"{name}.png").is_file()


@pytest.mark.parametrize("name", WHOLE)
def test_sgid_from_files_to_report(place, tmp_path, name):
    root = tmp_path / "set"
    with on_disk(name, root) as written:
        given = (*options(name, root), "models=tiny", "backbone=small_resnet", "aug=sgid")
        place.run(*given, *SHORT).good()
    names = class_names(written)
    result = place.result()
    protocol = result["protocol"]
    assert protocol["classes"] == len(names)
    whole = sum(len(part) for part in written.values())
    assert protocol["train"] + protocol["validation"] + protocol["test"] == whole
    assert {f"test/top1/{class_name}" for class_name in names} <= set(result["metrics"])

    rows = [
        row
        for file in place.artifacts.glob("generated/*/part-*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]
    assert len(rows) == protocol["train"] and {row["class_name"] for row in rows} == names
    noun = result["config"]["dataset"]["noun"] or ""
    for row in rows:
        assert row["prompt"].startswith(f"a photo of a {row['class_name']}")
        assert noun in row["prompt"] and row["prompt"].endswith(row["caption"])
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            assert image.size == (row["width"], row["height"])
    page = (place.results / result["fingerprint"] / "report.html").read_text()
    assert all(name in page for name in names)
