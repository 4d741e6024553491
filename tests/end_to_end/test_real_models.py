"""`run.py dataset=cars backbone=vit aug=sgid`, on files laid out as the real ones are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.data.writers import CAR_NAMES, write_cars
from tests.end_to_end import snapshots
from tests.end_to_end.command import ROOT, Outcome, Place

COMMAND = ("dataset=cars", "backbone=vit", "aug=sgid")
# A ViT of the same family, with the same 21,843 classes in its file, and a short run.
VIT = "vit_tiny_patch16_224.augreg_in21k"
SMALL = (
    f"backbone.model.name={VIT}", "backbone.epochs=null", "backbone.steps=2",
    "backbone.batch_size=4", "trainer.validations=1", "expansion=1", "steps=4",
    "models.generator.resolution=64", "models.captioner.max_tokens=5",
)  # fmt: skip
SD = "stable-diffusion-v1-5"
IDS = {
    "sd": (f"{SD}/{SD}", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
    "blip": ("Salesforce/blip-image-captioning-large", "353689b859fcf0523410b1806dace5fb46ecdf41"),
    "clip": ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "1a25a446712ba5ee05982a381eed697ef9b435cf"),
    "vit": ("timm/vit_base_patch16_224.augreg_in21k", None),
}  # fmt: skip
OPTIONS = {
    "sd": "models.generator.weights.path",
    "blip": "models.captioner.weights.path",
    "clip": "models.scorer.weights.path",
    "vit": "backbone.weights.path",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("downloads")
    return {
        "sd": snapshots.write_stable_diffusion(top / "sd"),
        "blip": snapshots.write_blip(top / "blip"),
        "clip": snapshots.write_open_clip(top / "clip"),
        "vit": snapshots.write_timm(top / "vit", VIT),
    }


@pytest.fixture(scope="module")
def cached(folders, tmp_path_factory) -> tuple[Place, Outcome]:
    """A run that finds all in the hub's cache and in data/, as the bare command does."""
    place = Place(tmp_path_factory.mktemp("cached"))
    write_cars(place.top / "data" / "cars", size=64)
    for name, (id, revision) in IDS.items():
        copy = shutil.copytree(folders[name], place.top / "copies" / name)
        snapshots.into_hub_cache(place.hub, id, Path(copy), revision)
    return place, place.run(*COMMAND, *SMALL)


def images(place: Place) -> list[bytes]:
    (file,) = place.artifacts.glob("generated/*/part-*.parquet")
    return [row["bytes"] for row in pq.read_table(file)["image"].to_pylist()]


def test_from_the_hub_cache_to_the_report(cached):
    place, outcome = cached
    outcome.good()
    result = place.result()
    assert result["choices"] == {
        "dataset": "cars", "backbone": "vit", "models": "sd15", "guidance": "linear",
        "filter": "none", "aug": ["sgid"],
    }  # fmt: skip
    assert 0 <= result["metrics"]["test/top1"] <= 100
    assert (place.results / result["fingerprint"] / "report.html").is_file()
    specs = [json.loads(f.read_text()) for f in place.artifacts.glob("*/*/spec.json")]
    spec = {spec["kind"]: spec for spec in specs}
    for kind, model, name in (
        ("described", "captioner", "blip"),
        ("described", "scorer", "clip"),
        ("generated", "engine", "sd"),
    ):
        (identity,) = spec[kind][model].values()  # under the short name of its class
        weights = identity["weights"]
        assert (weights["id"], weights["revision"]) == IDS[name]
    (file,) = place.artifacts.glob("generated/*/part-*.parquet")
    rows = pq.read_table(file).to_pylist()
    assert {row["class_name"] for row in rows} == set(CAR_NAMES)
    assert all((row["width"], row["height"]) == (64, 64) for row in rows)
    assert all(
        row["prompt"] == f"a photo of a {row['class_name']} car, {row['caption']}" for row in rows
    )
    # Words of the captioner's own vocabulary, without its start and end tokens.
    assert all(word[0] == "w" for row in rows for word in row["caption"].split())


def test_from_folders_with_a_sharded_unet(cached, folders, tmp_path):
    """The same weights give the same images, wherever and in however many files they lie."""
    place = Place(tmp_path)
    sharded = snapshots.write_stable_diffusion(tmp_path / "sd", shard_size="40KB")
    assert len(list((sharded / "unet").glob("*.safetensors"))) > 1
    paths = [f"{OPTIONS[name]}={ {**folders, 'sd': sharded}[name] }" for name in OPTIONS]
    root = f"dataset.root={cached[0].top / 'data' / 'cars'}"
    place.run(*COMMAND, *SMALL, *paths, root, "stage=augment").good()
    assert images(place) == images(cached[0])


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "lacks unet/diffusion_pytorch_model.safe"),
        ("tokenizer/vocab.json", "lacks tokenizer/tokenizer.json or tokenizer/vocab.json"),
        ("vae/config.json", "lacks vae/config.json"),
    ],
)  # fmt: skip
def test_an_incomplete_download_is_named(folders, tmp_path, file, said):
    broken = Path(shutil.copytree(folders["sd"], tmp_path / "sd"))
    (broken / file).unlink()
    place = Place(tmp_path)
    paths = [f"{OPTIONS[name]}={ {**folders, 'sd': broken}[name] }" for name in OPTIONS]
    outcome = place.run(*COMMAND, *paths)
    assert outcome.code == 1 and said in outcome.err and "Traceback" not in outcome.text
    assert not place.files()


def test_all_that_is_missing_is_told_at_once_and_before_any_work(tmp_path):
    place = Place(tmp_path)
    ask = "import sys; from sgid.cli import main\ntry: code = main()\n"
    ask += "except SystemExit as stop: code = stop.code\n"
    ask += "print([name for name in ('torch', 'diffusers', 'timm') if name in sys.modules], code)"
    process = subprocess.run(
        [sys.executable, "-c", ask, *place.arguments(COMMAND)[1:]],
        cwd=tmp_path,
        env={**place.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.stdout.splitlines()[-1] == "[] 1", process.stderr
    message = process.stderr
    assert message.count("things are missing") == 1 and "5 things are missing" in message
    assert "Traceback" not in message and "Error executing job" not in message
    command = " ".join(["python run.py stage=fetch", *COMMAND])
    assert f"To fetch it, with sizes first:\n  {command}" in message
    for words in ("dataset.root", "cars_train", "devkit"):
        assert words in message
    for name, (id, revision) in IDS.items():
        assert f"{id}{f' at {revision}' if revision else ''}: not in the hub cache" in message
        assert f"{OPTIONS[name]}=FOLDER" in message
    assert not place.files()
