"""A whole run: what it leaves, what it leaves alone, and its stages one by one."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sgid.config.compose import compose
from sgid.reporting.arms import find_baseline
from sgid.reporting.results import load_results
from sgid.stages.preflight import warn
from tests.end_to_end.command import SHORT, Place

FIGURES = {"test/top1", "test/top1_low", "test/top1_high", "test/loss", "validation/top1"}
GENERATED = {"generated/cosine", "generated/label_agreement"}


@pytest.fixture(scope="module")
def default(tmp_path_factory) -> tuple[Place, set[str]]:
    """`python run.py`, shortened, in an empty folder; and what it left there."""
    place = Place(tmp_path_factory.mktemp("default"))
    place.spawn_bare(*SHORT, "dataset.shots=2").good()
    files = (path for path in place.top.rglob("*") if path.is_file())
    return place, {path.relative_to(place.top).as_posix() for path in files}


def test_a_run_leaves_its_result_and_nothing_elsewhere(default):
    place, left = default
    assert {name.split("/")[0] for name in left} == {"artifacts", "results", "outputs"}
    assert not [name for name in left if name.endswith(".tmp")]
    result = place.result()
    folder = place.results / result["fingerprint"]
    for name in ("report.html", "spec.json", "predictions.parquet", "examples.parquet"):
        assert (folder / name).is_file()
    assert list(folder.glob("checkpoints/best.ckpt")) and list(folder.glob("*.png"))


def test_the_result_says_all_that_it_should(default):
    place, _ = default
    result = place.result()
    assert result["choices"] == {
        "dataset": "fashion", "backbone": "small_resnet", "models": "tiny", "guidance": "linear",
        "filter": "none", "aug": ["sgid"],
    }  # fmt: skip
    assert result["seed"] == 0 and result["config"]["expansion"] == 1
    assert "dataset.shots=2" in result["overrides"]
    metrics = result["metrics"]
    assert set(metrics) >= FIGURES | GENERATED
    assert sum(name.startswith("test/top1/") for name in metrics) == 10
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    assert metrics["test/top1_low"] <= metrics["test/top1"] <= metrics["test/top1_high"]
    assert set(result["seconds"]) == {"augment", "train", "evaluate"}
    assert len(result["stores"]) == 2
    for store in result["stores"]:
        assert (place.top / store / "manifest.json").is_file()
    assert {"python", "torch", "diffusers", "transformers", "timm"} <= set(result["versions"])
    assert "commit" in result and result["finished"].startswith("20")
    assert result["protocol"]["train"] == 20 and result["protocol"]["test"] == 10_000
    assert json.loads((place.results / result["fingerprint"] / "spec.json").read_text())


def test_stages_one_by_one_and_out_of_order(place, own, tmp_path):
    def stage(name: str):
        return place.run(*own, f"stage={name}")

    for name, said in (
        ("train", "not all there"),
        ("evaluate", "not all there"),
        ("report", "has no result; run stage=evaluate"),
    ):
        outcome = stage(name)
        assert outcome.code == 1 and said in outcome.err and "Traceback" not in outcome.text
    stage("augment").good()
    outcome = stage("evaluate")
    assert outcome.code == 1 and "run stage=train" in outcome.err
    for name in ("train", "evaluate", "report"):
        stage(name).good()
    apart = place.result()

    whole = Place(tmp_path / "whole")
    whole.run(*own).good()
    together = whole.result()
    assert apart["fingerprint"] == together["fingerprint"]
    for result in (apart, together):
        del result["metrics"]["train/seconds"]
    assert apart["metrics"] == together["metrics"]

    before = whole.files()
    assert "done before" in whole.run(*own).good().out
    assert whole.files() == before


def test_everything_combined(place, own):
    place.run(
        *own, "aug=[none,sgid,text2img_label,trivialaugment,cutout,mixup,cutmix]",
        "guidance=inverse",
        "mix.how=replace", "store.format=webp", "trainer.workers=1", "expansion=2", pictures=True,
    ).good()  # fmt: skip
    result = place.result()
    assert result["choices"]["aug"] == [
        *("none", "sgid", "text2img_label", "trivialaugment", "cutout", "mixup", "cutmix")
    ]
    assert [one["method"] for one in result["generated"]] == ["sgid", "text2img_label"]
    assert "generated/diversity" in result["metrics"]


def test_the_baseline_needs_no_models(place, own):
    missing = "models.generator.weights.path=/nowhere"
    place.run(*own, "aug=flip_crop", missing).good()
    assert not (place.artifacts / "generated").exists()
    assert place.result()["stores"] == []


def test_the_shards_of_a_store_may_change_size(place, own):
    """Captions are not read in shards of another size than they were written in."""
    place.run(*own, "stage=augment", "store.shard_size=256").good()
    place.run(*own, "stage=augment", "store.shard_size=3").good()
    stores = [Path(file).parent for file in place.artifacts.glob("generated/*/manifest.json")]
    rows = [json.loads((store / "manifest.json").read_text())["rows"] for store in stores]
    assert len(rows) == 2 and rows[0] == rows[1]


def test_a_filter_drops_from_training_and_not_from_the_store(place, own):
    place.run(*own, "expansion=3", "filter=label").good()
    filtered = place.result()
    (summary,) = filtered["generated"]
    dropped = summary["filter"]
    assert dropped["name"] == "label" and dropped["kept"] + dropped["dropped"] == summary["images"]
    assert 0 < dropped["dropped"] < summary["images"]
    assert sum(dropped["dropped_per_class"].values()) == dropped["dropped"]
    # By CLIP itself, one by one.
    agreement = 100 * dropped["kept"] / summary["images"]
    assert summary["label_agreement"] == pytest.approx(agreement)
    before = place.files()

    # The same images, all of them, make another run of the same store.
    place.run(*own, "expansion=3").good()
    results = [json.loads(path.read_text()) for path in place.results.glob("*/result.json")]
    whole = next(one for one in results if one["fingerprint"] != filtered["fingerprint"])
    assert whole["stores"] == filtered["stores"] and whole["generated"][0]["filter"] is None
    stores = {name: time for name, time in before.items() if name.endswith(".parquet")}
    assert stores.items() <= place.files().items()


def test_a_filter_that_drops_everything_is_an_error(place, own):
    outcome = place.run(*own, "filter=band", "filter.min=0.9999", "filter.max=1")
    assert outcome.code == 1 and "Traceback" not in outcome.text
    assert "band(min=0.9999, max=1)" in outcome.err and "filter=none" in outcome.err


def test_stage_data_shows_what_a_set_holds_and_nothing_else_is_needed(place, images):
    outcome = place.run(
        "stage=data", "dataset=folder", f"dataset.root={images}", "dataset.noun=garment"
    ).good()
    assert "32 × 32" in outcome.out and "bag garment, coat garment" in outcome.out
    assert "held out" in outcome.out and not place.results.exists()
    with Image.open(place.artifacts / "data" / "folder.png") as picture:
        assert min(picture.size) > 100


def test_what_differs_in_its_result_has_a_folder_of_its_own(place, own):
    """The order of transforms, and the noun that a zero-shot head is made of."""
    for different in (
        ("aug=[cutout,trivialaugment]",),
        ("aug=[trivialaugment,cutout]",),
        ("aug=flip_crop", "backbone=small_clip", "backbone.model.head=zero_shot"),
        ("aug=flip_crop", "backbone=small_clip", "backbone.model.head=zero_shot",
         "dataset.noun=garment"),
    ):  # fmt: skip
        outcome = place.run(*own, *different).good()
        assert "done before" not in outcome.out
    assert len(list(place.results.glob("*/result.json"))) == 4


def test_where_images_lie_does_not_make_another_arm(place, own, images, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(images, moved)
    place.run(*own, "aug=flip_crop").good()
    outcome = place.run(*own, f"dataset.root={moved}", "aug=cutout").good()
    results = load_results(place.results)
    assert len({result.config["dataset"]["root"] for result in results}) == 2
    (cutout,) = (result for result in results if result.aug == ("cutout",))
    assert find_baseline(cutout, results) is not None
    assert "vs flip_crop" in outcome.out


def test_models_that_have_seen_the_images_and_guidance_that_follows_nothing_are_told():
    from rich.console import Console

    for options, said in (
        (["dataset=fashion_mnist", "models=tiny"], "were trained on images of fashion_mnist"),
        (["guidance=fixed", "aug=[sgid,no_label]"], "sgid, no_label does not follow"),
        (["dataset=cars", "models=tiny"], "nothing else"),
        (["guidance=fixed", "aug=fixed_guidance"], ""),
        ([], ""),
    ):
        console = Console(file=io.StringIO(), width=200)
        warn(
            compose([*options, *([] if "aug" in str(options) else ["aug=sgid"])]),
            console,
        )
        told = console.file.getvalue()
        assert said in told and bool(said) == bool(told)
