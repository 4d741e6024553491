"""Stores and results as artifacts: what is in them, and which runs made and used them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from sgid.reporting.results import load_result
from sgid.reporting.wandb import log_finished, log_stores, tracking
from sgid.reporting.wandb_artifacts import store_artifact
from sgid.store.store import Store
from tests.reporting.wandb_file import read_back

SCHEMA = pa.schema([("key", pa.string())])


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)


@pytest.fixture
def stores(tmp_path):
    """A described store and the generated one that was made of it."""

    def make(spec):
        store = Store(tmp_path / "artifacts" / spec["kind"], spec, SCHEMA, rows=3, shard_size=2)
        store.write(0, [{"key": "a"}, {"key": "b"}])
        store.write(1, [{"key": "c"}])
        store.finish()
        return store.folder

    described = make({"kind": "described", "images": "1234"})
    return [
        described,
        make({"kind": "generated", "method": "my/own: sgid", "source": described.name}),
    ]


def with_stores(result, stores):
    path = result.folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stores": list(map(str, stores))}))
    return load_result(result.folder)


def logger(**options):
    return {"_target_": "sgid.reporting.wandb.WandbSettings", "project": "test", **options}


def logged(result, *, made, **options):
    """What W&B was told of a run over its stages that made some of its stores."""
    names = {"config": result.config, "choices": result.choices, "seed": result.seed}
    with tracking(logger(**options), result.folder, **names):
        log_stores(logger(**options), made)
        log_finished(logger(**options), result.folder)
    return read_back(result.folder)


def test_the_run_that_makes_a_store_logs_it_and_the_others_use_the_same(make_run, offline, stores):
    maker, user = (with_stores(make_run(seed=seed), stores) for seed in (0, 1))
    first, second = logged(maker, made=stores), logged(user, made=[])
    names = [f"described-{stores[0].name}", f"my_own__sgid-{stores[1].name}"]
    for name, kind in zip(names, ("described", "generated"), strict=True):
        made, used = first.artifacts[name], second.artifacts[name]
        assert (made.type, used.type) == (kind, kind)
        assert not made.use_after_commit and used.use_after_commit
        assert made.digest == used.digest, "one version to W&B"
    assert first.config["stores_made"] == [store.name for store in stores]
    assert "stores_made" not in second.config
    metadata = json.loads(first.artifacts[names[1]].metadata)
    assert metadata["spec"]["source"] == stores[0].name
    assert (metadata["rows"], Path(metadata["path"])) == (3, stores[1])


@pytest.mark.parametrize("upload", [False, True])
def test_images_and_checkpoint_go_up_only_if_asked_for(make_run, offline, stores, upload):
    result = with_stores(make_run(), stores)
    (result.folder / "checkpoints").mkdir()
    (result.folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    read = logged(result, made=stores, upload=upload)
    shards = ["part-00000.parquet", "part-00001.parquet"] if upload else []
    for store, word in zip(stores, ("described", "my_own__sgid"), strict=True):
        assert read.files(f"{word}-{store.name}") == ["manifest.json", *shards, "spec.json"]
    assert (f"model-{result.fingerprint}" in read.artifacts) == upload
    # None is copied: a store may be larger than what is left on the disk.
    (part,) = read.artifacts[f"described-{stores[0].name}"].manifest.contents[:1]
    assert Path(part.local_path).parent == stores[0]


def test_the_result_is_an_artifact_with_its_figures(make_run, offline):
    result = make_run(["sgid"])
    read = logged(result, made=[])
    name = f"result-{result.fingerprint}"
    files = ["curves.csv", "examples.parquet", "predictions.parquet", "result.json"]
    assert read.files(name) == files
    metadata = json.loads(read.artifacts[name].metadata)
    assert metadata["metrics"]["test/top1"] == result.metrics["test/top1"]
    (copy,) = [one for one in read.artifacts[name].manifest.contents if one.path == "result.json"]
    # It may be written again before it is uploaded.
    assert Path(copy.local_path).is_relative_to(result.folder / "wandb")


def test_a_store_that_was_deleted_is_told_and_left_out(tmp_path, caplog):
    assert store_artifact(tmp_path / "gone", upload=False) is None
    assert "gone is not there any more" in caplog.text
