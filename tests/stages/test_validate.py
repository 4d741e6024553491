"""`stage=validate` and `stage=screen`: what a search runs, without the test images."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

from sgid import pipeline
from sgid.config.compose import compose_choices
from sgid.stages.run import Run, prepare
from sgid.stages.screen import SCREEN
from tests.data.writers import write_folder

OPTIONS = ("dataset=folder", "models=tiny", "backbone=small_resnet", "expansion=1", "steps=4")
OPTIONS += ("backbone.steps=2", "trainer.validations=1", "trainer.device=cpu")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Prepare a run whose test images cannot be read."""
    top = tmp_path_factory.mktemp("validate")
    images = write_folder(top / "images", {"bag": 8, "coat": 8}, size=32)

    def unread(row: int) -> bytes:
        raise AssertionError("a test image was read")

    def unseen(*options: str) -> Run:
        config, choices = compose_choices([*OPTIONS, f"dataset.root={images}", *options])
        config.paths.artifacts, config.paths.results = str(top / "artifacts"), str(top / "results")
        run = prepare(config, choices, list(options))
        return replace(
            run, dataset=replace(run.dataset, test=replace(run.dataset.test, read=unread))
        )

    return unseen


def test_a_run_is_validated_without_reading_a_test_image(unseen, capsys):
    run = unseen("stage=validate", "noise_rate=0.5")
    assert run.validation_top1 is None and run.costs() == (None, None)
    folder = pipeline.run(run, Console())
    assert folder == run.folder and not (folder / "result.json").is_file()
    trained = json.loads((folder / "checkpoints" / "train.json").read_text())
    assert run.validation_top1 == trained["validation/top1"]
    images, training = run.costs()
    assert images > 0 and training == pytest.approx(trained["train/seconds"])
    before = (folder / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    assert pipeline.run(unseen("stage=validate", "noise_rate=0.5"), Console()) == folder
    assert "done before" in capsys.readouterr().out
    assert (folder / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before
    # The very run that stage=all would go on with, and the guard of this test does guard.
    rest = unseen("stage=evaluate", "noise_rate=0.5")
    assert rest.folder == folder
    with pytest.raises(AssertionError, match="a test image was read"):
        pipeline.run(rest, Console(quiet=True))


def test_a_few_images_are_rated_without_training(unseen):
    run = unseen("stage=screen", "aug=[sgid,text2img_label]", "advise.screened=12")
    folder = pipeline.run(run, Console(quiet=True))
    ratings = json.loads((folder / SCREEN).read_text())
    assert [one["method"] for one in ratings] == ["sgid", "text2img_label"]
    for one in ratings:
        assert one["images"] == 12 and 0 <= one["consistency"] <= 1 and one["diversity"] > 0
        assert one["score"] == pytest.approx(one["consistency"] * one["diversity"])
    assert not (run.folder / "checkpoints").exists()
    # Another guidance is another rating; a perturbation more is the same.
    again = pipeline.run(
        unseen("stage=screen", "aug=[sgid,text2img_label,randaugment]", "advise.screened=12"),
        Console(quiet=True),
    )
    assert again == folder


def test_what_learns_from_the_images_is_not_screened(unseen):
    assert pipeline.run(unseen("stage=screen", "aug=da_fusion"), Console(quiet=True)) is None
