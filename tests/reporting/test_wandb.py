"""Offline W&B runs, read back from their own files: media, config, summary and artifacts."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hydra.utils import instantiate

from sgid.config.compose import compose
from sgid.reporting.report import write_report
from sgid.reporting.results import load_result
from sgid.reporting.wandb import (
    STEP,
    WandbSettings,
    _measures,
    log_finished,
    log_run,
    log_stores,
    open_run,
    short_names,
    store_artifact,
    tracking,
    training_loggers,
    unready,
)
from sgid.store.store import Store
from tests.reporting.wandb_file import read_back

SCHEMA = pa.schema([("key", pa.string())])

LOGGER = {"_target_": "sgid.reporting.wandb.WandbSettings", "project": "test"}


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)


def named(result):
    return {"config": result.config, "choices": result.choices, "seed": result.seed}


def test_one_offline_run_holds_live_curves_and_the_report(make_run, offline):
    import wandb

    result = make_run(["sgid"], side=8, filtered=True)
    write_report(result.folder, None)
    chosen = WandbSettings(project="test", tags=["paper", "fashion"])
    live = open_run(chosen, result.folder, **named(result))
    live.log({"train/loss": 2.0, STEP: 10})
    log_run(result.folder, chosen)
    assert wandb.run is None

    read = read_back(result.folder)
    run = read.run
    assert (run.run_id, run.project, run.job_type) == (result.fingerprint, "test", "run")
    assert sorted(run.tags) == ["fashion", "paper", "sgid", "small_resnet", "tiny"]
    assert run.run_group == read.config["arm"]
    assert run.display_name == "fashion small_resnet sgid seed 0"
    assert run.notes == "python run.py 'aug=[sgid]' seed=0 noise_rate=0.5"
    assert read.exit_code == 0

    # logged live, so not once more from curves.csv
    assert [row["train/loss"] for row in read.history if "train/loss" in row] == [2.0]
    media = read.media
    assert media["report/examples._type"] == "image-file"
    assert media["report/page._type"] == "html-file"
    assert media["augmented.nrows"] == 6 * 5
    written = table(result.folder, "augmented")
    columns = ["original", "augmented", "kept", "method", "key", "class_name", "caption"]
    assert written["columns"] == [*columns, "similarity", "guidance_scale", "strength"]
    assert [row[2] for row in written["data"]] == [True, False, True, True, True] * 6
    assert [row[7] for row in written["data"][::5]] == pytest.approx(
        [0.6 + 0.03 * i for i in range(6)]
    )
    (page,) = result.folder.glob("wandb/offline-run-*/files/media/html/report/page_*.html")
    assert page.read_text() == (result.folder / "report.html").read_text()
    assert list(result.folder.glob("wandb/artifacts/staging/*")), "images stay with the run"


def table(folder: Path, name: str):
    (path,) = folder.glob(f"wandb/offline-run-*/files/media/table/{name}_*.json")
    return json.loads(path.read_text())


def test_a_finished_run_is_logged_from_its_folder(make_run, offline):
    """Config, summary, curves and result of two seeds, whose arm is one."""
    import wandb

    result = make_run(["sgid", "randaugment"], noise_rate=0.7, shots=20)
    path = result.folder / "result.json"
    raw = json.loads(path.read_text())
    raw["generated"][0]["measures"] = {"vendi": 3.5, "test_copies": 2.0, "lpips": None}
    path.write_text(json.dumps(raw))
    with tracking(LOGGER, result.folder, **named(result)):
        log_finished(LOGGER, result.folder)
        assert wandb.run is None
    read = read_back(result.folder)
    assert read.exit_code == 0
    short = ["augmentation", "generates", "noise_rate", "guidance_min", "guidance_max", "shots"]
    assert [read.config[name] for name in short] == ["sgid + randaugment", True, 0.7, 3.0, 7.5, 20]
    assert read.config["backbone"]["optimizer"] == {"lr": 0.05}, "and the whole config, nested"
    assert read.config["choices"]["backbone"] == "small_resnet"

    summary = read.summary
    for name in ("test/top1", "test/top1_low", "test/top1_high", "validation/top1"):
        assert summary[name] == result.metrics[name]
    assert (summary["seconds/train"], summary["generated/vendi"]) == (60.1, 3.5)
    assert summary["generated/test_copies"] == 2 and "generated/lpips" not in summary
    assert not any(key.startswith("test/top1/") for key in summary), "they are a table"
    assert dict(table(result.folder, "test/classes")["data"]) == result.class_accuracy
    curve = [(row[STEP], row["train/loss"]) for row in read.history if "train/loss" in row]
    assert len(curve) == 41 and curve[0] == (0, 2.3)

    name = f"result-{result.fingerprint}"
    files = ["curves.csv", "examples.parquet", "predictions.parquet", "result.json"]
    assert read.files(name) == files
    metadata = json.loads(read.artifacts[name].metadata)
    assert metadata["metrics"]["test/top1"] == result.metrics["test/top1"]
    (copy,) = [one for one in read.artifacts[name].manifest.contents if one.path == "result.json"]
    # It may be written again before it is uploaded.
    assert Path(copy.local_path).is_relative_to(result.folder / "wandb")

    other = make_run(["sgid", "randaugment"], 1, noise_rate=0.7, shots=20)
    log_run(other.folder, WandbSettings(project="test", group="mine", job_type="baseline"))
    written = read_back(other.folder)
    assert (written.run.run_group, written.run.job_type) == ("mine", "baseline")
    assert written.config["arm"] == read.config["arm"]


@pytest.mark.parametrize(
    "changed", [{"noise_rate": 0.7}, {"shots": 5}, {"same_images": "0" * 16}, {"backbone": "vit"}]
)
def test_other_settings_and_other_images_are_another_arm(make_run, changed):
    arms = [
        short_names(run.config, run.choices)["arm"] for run in (make_run(), make_run(**changed))
    ]
    assert arms[0] != arms[1]


def test_metrics_of_several_methods_have_their_names(make_run):
    result = make_run(["sgid", "text2img_label"])
    generated = tuple(replace(one, measures={"vendi": 3.5}) for one in result.generated)
    both = _measures(replace(result, generated=generated))
    assert both == {"generated/sgid/vendi": 3.5, "generated/text2img_label/vendi": 3.5}


def test_a_run_that_fails_is_marked_as_failed(make_run, offline):
    import wandb

    result = make_run()
    with (
        pytest.raises(ValueError, match="broken"),
        tracking(LOGGER, result.folder, **named(result)),
    ):
        (live,) = training_loggers(LOGGER, result.folder, **named(result))
        live.log_metrics({"train/loss": 2.0}, step=0)
        raise ValueError("broken")
    assert wandb.run is None
    read = read_back(result.folder)
    assert read.exit_code == 1
    assert read.media["train/loss"] == 2.0


def test_without_a_logger_nothing_is_opened(make_run, monkeypatch):
    import wandb

    monkeypatch.setattr(wandb, "init", None)
    result = make_run()
    with tracking({}, result.folder, **named(result)):
        assert training_loggers({}, result.folder, **named(result)) == []
        log_stores({}, [Path("nowhere")])
        log_finished({}, result.folder)


def test_a_server_that_cannot_be_reached_is_an_error_for_people(make_run, monkeypatch):
    import wandb

    def unreachable(**_):
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setattr(wandb, "init", unreachable)
    result = make_run()
    with pytest.raises(ConnectionError, match="no route to host\n.*WANDB_MODE=offline"):
        open_run(WandbSettings(project="test"), result.folder, **named(result))


def test_a_server_lost_at_the_end_leaves_the_result_and_says_how_to_log_it(
    make_run, offline, monkeypatch
):
    import wandb

    def lost(self, *_, **__):
        raise wandb.errors.CommError("connection reset")

    monkeypatch.setattr(wandb.Run, "log_artifact", lost)
    result = make_run(["none"])
    again = "run.py 'aug=\\[none\\]' seed=0 noise_rate=0.5 stage=report"
    with pytest.raises(ConnectionError, match=f"(?s)connection reset.*finished and whole.*{again}"):
        log_run(result.folder, WandbSettings(project="test"))


def test_in_a_sweep_of_wandb_its_agent_names_the_run(make_run, offline, monkeypatch):
    import wandb

    result = make_run(["none"])
    monkeypatch.setenv("WANDB_SWEEP_ID", "a/b/c")
    given = {}

    def init(**arguments):
        given.update(arguments)
        raise wandb.errors.CommError("enough")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(ConnectionError, match="enough"):
        open_run(WandbSettings(project="test"), result.folder, **named(result))
    assert given["group"] and not {"id", "project", "entity"} & set(given)


def test_nobody_logged_in_is_an_error_before_any_work(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    assert unready({}) is None
    text = unready(LOGGER)
    assert text and "nobody is logged in" in text and "wandb login" in text
    assert "WANDB_MODE=offline" in text
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert unready(LOGGER) is None
    wandb.teardown()


def test_wandb_not_installed_is_an_error_with_the_command(monkeypatch):
    monkeypatch.setattr("sgid.reporting.wandb.find_spec", lambda name: None)
    text = unready({"project": "test"})
    assert text and 'pip install "sgid[tracking]"' in text


def test_the_home_directory_stays_as_it_was(make_run, offline, tmp_path, monkeypatch):
    import wandb

    wandb.teardown()  # its process keeps the environment that it was started with
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "artifacts" / "wandb"))
    result = make_run(["sgid"])
    log_run(result.folder, WandbSettings(project="test"))
    read_back(result.folder)
    wandb.teardown()
    assert list(home.rglob("*")) == []
    assert "WANDB_DATA_DIR" not in os.environ


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


def logged(result, *, made, **options):
    """The W&B run of a run that made some of its stores in its stages."""
    logger = {**LOGGER, **options}
    with tracking(logger, result.folder, **named(result)):
        log_stores(logger, made)
        log_finished(logger, result.folder)
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


def test_a_store_that_was_deleted_is_left_out_with_a_warning(tmp_path, caplog):
    assert store_artifact(tmp_path / "gone", upload=False) is None
    assert "gone is not there any more" in caplog.text


def test_the_config_group_and_the_command_line_make_the_settings():
    config = compose(["logger=wandb", "logger.group=main", "logger.tags=[paper,tiny]"])
    assert set(config.logger) - {"_target_"} == set(asdict(WandbSettings(project="sgid")))
    assert instantiate(config.logger) == WandbSettings(
        project="sgid", group="main", tags=["paper", "tiny"]
    )
    assert compose([]).logger == {}
