"""The snippets of the docs, written to files as they stand and run."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hydra.utils import instantiate
from PIL import Image, ImageOps

from sgid.config.compose import compose
from sgid.stages.validation import invalid_options
from tests.data.writers import picture
from tests.docs.pages import WRITTEN, snippets
from tests.end_to_end.command import Place

FILES = snippets(*WRITTEN)
CHOICES = sorted(path for path in FILES if path.endswith(".yaml"))


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A folder with every file that the pages show, and with the images that these speak of."""
    top = tmp_path_factory.mktemp("docs")
    for path, text in FILES.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, encoding="utf-8")
    images = top / "data" / "mushrooms"
    images.mkdir(parents=True)
    with (images / "images.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "species", "split"))
        for label, species in enumerate(("bag", "coat")):
            for index in range(12):
                name = f"{label}-{index:02}.png"
                picture(label, index, 32).save(images / name)
                table.writerow((name, species, "train" if index < 8 else "test"))
    return top


@pytest.fixture(autouse=True)
def importable(mine, monkeypatch):
    monkeypatch.syspath_prepend(mine)
    yield
    for name in [name for name in sys.modules if name == "my" or name.startswith("my.")]:
        del sys.modules[name]


def mine_composed(mine: Path, *options: str):
    own = [f"hydra.searchpath=[{mine / 'my'}]", f"paths.data={mine / 'data'}", "allow_targets=[my]"]
    return compose([*own, *options])


@pytest.mark.parametrize("path", CHOICES)
def test_every_choice_is_taken_as_it_stands(mine, path):
    """What a file says is what a run has, whatever it builds upon, and is within the limits."""
    _, group, name = Path(path).with_suffix("").parts
    config = mine_composed(mine, f"{group}={name}")
    assert invalid_options(config) == []
    said = yaml.safe_load(FILES[path])
    said.pop("defaults", None)
    found = asdict(config)
    _is_part(said, found if "@package _global_" in FILES[path] else found[group])
    first = next(line for line in FILES[path].splitlines() if "@package" not in line)
    assert first.startswith("# ") and len(first) > 10, "--help shows the first comment"


def _is_part(said: Any, found: Any) -> None:
    if isinstance(said, dict):
        for key, value in said.items():
            _is_part(value, found[key])
    elif "${" not in str(said):
        assert said == found


def test_every_python_snippet_is_used_by_a_choice():
    targets = "\n".join(text for path, text in FILES.items() if path.endswith(".yaml"))
    for path in FILES:
        if path.endswith(".py"):
            assert f"_target_: {path.removesuffix('.py').replace('/', '.')}." in targets, path


def test_all_kinds_in_one_run(mine, tmp_path):
    """A run with a dataset, augmentations, a map, a filter, a backbone, an experiment: all own."""
    place = Place(tmp_path)
    place.run(
        f"paths.data={mine / 'data'}", "dataset=mushrooms", "experiment=quick", "guidance=steep",
        "filter=sure", "filter.min=-1", "aug=[sketch,frosted,rotate,posterize,mixup_mild]",
        "--config-dir", str(mine / "my"), "allow_targets=[my]",
    ).good()  # fmt: skip
    result = place.result()
    assert result["config"]["backbone"]["name"] == "convnet"
    assert result["protocol"]["test"] == 8

    columns = ["prompt", "similarity", "guidance_scale", "strength"]
    made = stored(place, "sketch").select(columns).to_pydict()
    assert all(re.match("a pencil sketch of a .* mushroom, ", one) for one in made["prompt"])
    assert set(made["strength"]) == {0.8}
    similarity, scale = np.array(made["similarity"]), np.array(made["guidance_scale"])
    assert scale.min() == 1 and scale.max() == 7.5
    assert (np.diff(scale[np.argsort(similarity)]) >= 0).all()

    colour = [round(value) for value in json.loads(prepared(place).read_text())]
    frosted = stored(place, "frosted").to_pylist()
    assert {row["strength"] for row in frosted} == {0.5, 0.9}
    for row in frosted:
        assert {row["class_name"], row["source_class"]} == {"bag", "coat"}
        assert row["label_weights"] == [{"label": row["label"], "weight": 1.0}]
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        assert pixels[0, 0].tolist() == pixels[-1, 1].tolist() == colour

    generated = result["generated"][0]
    wrong = round(generated["images"] * (1 - generated["label_agreement"] / 100))
    assert 0 < generated["filter"]["dropped"] == wrong < generated["images"]


def stored(place: Place, method: str):
    """The rows of a method's store."""
    for spec in place.artifacts.glob("generated/*/spec.json"):
        if json.loads(spec.read_text())["method"] == method:
            return pq.read_table(sorted(spec.parent.glob("part-*.parquet")))
    raise AssertionError(f"no store of {method}")


def prepared(place: Place) -> Path:
    (file,) = place.artifacts.glob("prepared/*/colour.json")
    return file


def test_perturbations_do_what_they_say(mine):
    import torch

    config = mine_composed(mine, "aug=[rotate,posterize,mixup_mild]")
    image = picture(0, 0, 32)
    made = instantiate(config.aug["posterize"]["transform"])(image)
    assert np.array_equal(made, ImageOps.posterize(image, 3))
    torch.manual_seed(1)
    assert not np.array_equal(instantiate(config.aug["rotate"]["transform"])(image), image)
    mix = instantiate(config.aug["mixup_mild"]["transform"])(num_classes=2)
    _, labels = mix(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
    assert labels.shape == (4, 2) and torch.allclose(labels.sum(1), torch.ones(4))
