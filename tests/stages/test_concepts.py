"""Methods with learned concepts from options to stores, on the bundled models."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from sgid import pipeline
from sgid.config.compose import compose
from sgid.models.loader import Loaded
from sgid.stages.run import prepare

FEW = ["dataset.shots=2", "expansion=2", "steps=4", "trainer.device=cpu", "store.shard_size=16"]
SHORT = {
    "diff_mix": "steps=2", "diff_aug": "steps=2", "da_fusion": "steps=1",
    "datadream": "epochs=1", "real_fake": "epochs=1",
}  # fmt: skip
LOADED = Loaded()


def run(place, *aug: str, stage: str = "augment", options=()):
    """Run a stage of methods with short trainings; the augmentations, and what was printed."""
    config = compose(
        [
            f"aug=[{','.join(aug)}]", f"stage={stage}", *FEW, f"paths.artifacts={place}/artifacts",
            f"paths.results={place}/results", *options,
            *(f"aug.{name}.prepare.{SHORT[name]}" for name in aug if name in SHORT),
        ]
    )  # fmt: skip
    this = prepare(config, {"aug": list(aug), "backbone": "small_resnet"}, [], loaded=LOADED)
    console = Console(record=True, width=300, quiet=False, force_terminal=False)
    pipeline.run(this, console)
    return this.augmentations, console.export_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


def test_concepts_are_learned_alone_and_taken_by_whoever_shares_them(place):
    (mix, aug), told = run(place, "diff_mix", "diff_aug", stage="concepts")
    assert "diff_mix: learns 1 concepts, 2 steps in all, with about" in told
    assert mix.artifact == aug.artifact and str(mix.artifact) in told
    assert not mix.generated.complete and mix.generated.missing()
    made = {file: file.stat().st_mtime_ns for file in mix.artifact.rglob("*.safetensors")}
    assert {file.name for file in made} == {"set.safetensors", "tokens.safetensors"}
    (mix, real), told = run(place, "diff_mix", "real_mix")
    assert "learns" not in told
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert real.artifact is None and "adapters" not in real.generated.columns
    rows = mix.generated.read().to_pylist()
    assert len(rows) == 40
    for row in rows:
        assert row["prompt"] == f"a photo of a <class-{row['label']}>"
        assert row["adapters"] == [{"file": "set.safetensors", "scale": 1.0}]
        assert sum(one["weight"] for one in row["label_weights"]) == pytest.approx(1)
    assert {row["source_class"] == row["class_name"] for row in rows} == {True, False}
    drawn = [row["image"]["bytes"] for row in rows]
    plain = [row["image"]["bytes"] for row in real.generated.read().to_pylist()]
    assert len(set(drawn + plain)) == 80  # the concepts change each image


def test_a_lora_of_each_class(place):
    (one,), told = run(place, "datadream")
    assert "datadream: learns 10 concepts, 10 steps in all" in told
    for row in one.generated.read().to_pylist():
        assert row["adapters"] == [{"file": f"class-{row['label']}.safetensors", "scale": 1.0}]
    assert json.loads((one.artifact / "prepared.json").read_text())["prepare"]["concepts"]


def test_an_artifact_is_the_same_whatever_else_a_run_does(place):
    (alone,), _ = run(place, "da_fusion", stage="concepts")
    (_, beside), _ = run(place, "sgid", "da_fusion", stage="concepts")
    assert alone.artifact == beside.artifact
    assert alone.generated.folder == beside.generated.folder


def test_a_stage_that_has_nothing_to_learn_is_told(place):
    with pytest.raises(ValueError, match=r"stage=concepts: aug=\[img2img_label\] learns nothing"):
        run(place, "img2img_label", stage="concepts")
