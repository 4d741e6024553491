"""An offline W&B run, read back from its own file."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

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
    tracking,
    training_loggers,
    unready,
)
from tests.reporting.wandb_file import read_back

TARGET = "sgid.reporting.wandb.WandbSettings"


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
    columns = ["original", "augmented", "kept", "method", "class_name", "caption"]
    assert written["columns"] == [*columns, "similarity", "guidance_scale", "strength"]
    assert [row[2] for row in written["data"]] == [True, False, True, True, True] * 6
    assert [row[6] for row in written["data"][::5]] == pytest.approx(
        [0.6 + 0.03 * i for i in range(6)]
    )
    (page,) = result.folder.glob("wandb/offline-run-*/files/media/html/report/page_*.html")
    assert page.read_text() == (result.folder / "report.html").read_text()
    assert list(result.folder.glob("wandb/artifacts/staging/*")), "images stay with the run"


def table(folder: Path, name: str):
    (path,) = folder.glob(f"wandb/offline-run-*/files/media/table/{name}_*.json")
    return json.loads(path.read_text())


def test_the_summary_is_what_the_run_measured(make_run, offline):
    result = make_run(["none"])
    log_run(result.folder, WandbSettings(project="test"))
    read = read_back(result.folder)
    for name in ("test/top1", "test/top1_low", "test/top1_high", "validation/top1"):
        assert read.summary[name] == result.metrics[name]
    assert read.summary["seconds/train"] == 60.1
    assert not any(key.startswith("test/top1/") for key in read.summary), "they are a table"
    written = table(result.folder, "test/classes")
    assert {name: value for name, value in written["data"]} == result.class_accuracy


def test_every_measure_of_generated_images_is_in_the_summary(make_run, offline):
    result = make_run(["sgid"])
    path = result.folder / "result.json"
    raw = json.loads(path.read_text())
    raw["generated"][0]["measures"] = {"vendi": 3.5, "test_copies": 2.0, "lpips": None}
    path.write_text(json.dumps(raw))
    log_run(result.folder, WandbSettings(project="test"))
    summary = read_back(result.folder).summary
    assert summary["generated/vendi"] == 3.5 and summary["generated/test_copies"] == 2
    assert "generated/lpips" not in summary
    raw["generated"].append({**raw["generated"][0], "method": "no_label"})
    path.write_text(json.dumps(raw))
    both = _measures(load_result(result.folder))
    assert both["generated/no_label/vendi"] == both["generated/sgid/vendi"] == 3.5


def test_the_config_has_what_panels_ask_for_under_short_names(make_run, offline):
    result = make_run(["sgid", "randaugment"], noise_rate=0.7, shots=20)
    log_run(result.folder, WandbSettings(project="test"))
    config = read_back(result.folder).config
    short = ["augmentation", "generates", "noise_rate", "guidance_min", "guidance_max", "shots"]
    assert [config[name] for name in short] == ["sgid + randaugment", True, 0.7, 3.0, 7.5, 20]
    assert config["backbone"]["optimizer"] == {"lr": 0.05}, "and the whole config, nested"
    assert config["choices"]["backbone"] == "small_resnet"


def test_seeds_share_an_arm_and_other_settings_do_not(make_run, offline):
    runs = [make_run(seed=0), make_run(seed=1), make_run(seed=0, noise_rate=0.7)]
    for result in runs:
        log_run(result.folder, WandbSettings(project="test"))
    arms = [read_back(result.folder).config["arm"] for result in runs]
    assert arms[0] == arms[1] != arms[2]


def test_curves_are_taken_from_the_folder_where_none_were_live(make_run, offline):
    result = make_run(["none"], side=8)
    log_run(result.folder, WandbSettings(project="test", group="mine", job_type="baseline"))
    read = read_back(result.folder)
    curve = [(row[STEP], row["train/loss"]) for row in read.history if "train/loss" in row]
    assert len(curve) == 41 and curve[0] == (0, 2.3)
    assert (read.run.run_group, read.run.job_type) == ("mine", "baseline")


def test_a_run_that_fails_is_marked_as_failed(make_run, offline):
    import wandb

    result = make_run()
    logger = {"_target_": TARGET, "project": "test"}
    with (
        pytest.raises(ValueError, match="broken"),
        tracking(logger, result.folder, **named(result)),
    ):
        (live,) = training_loggers(logger, result.folder, **named(result))
        live.log_metrics({"train/loss": 2.0}, step=0)
        raise ValueError("broken")
    assert wandb.run is None
    read = read_back(result.folder)
    assert read.exit_code == 1
    assert read.media["train/loss"] == 2.0


def test_a_run_over_its_stages_is_one_and_closed_once(make_run, offline):
    import wandb

    result = make_run(["none"])
    logger = {"_target_": TARGET, "project": "test"}
    with tracking(logger, result.folder, **named(result)):
        log_finished(logger, result.folder)
        assert wandb.run is None
    assert read_back(result.folder).exit_code == 0


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


def test_nobody_logged_in_is_told_before_any_work(tmp_path, monkeypatch):
    import wandb

    logger = {"_target_": TARGET, "project": "test"}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    assert unready({}) is None
    text = unready(logger)
    assert text and "nobody is logged in" in text and "wandb login" in text
    assert "WANDB_MODE=offline" in text
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert unready(logger) is None
    wandb.teardown()


def test_wandb_not_installed_is_told_with_what_installs_it(monkeypatch):
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


def test_the_config_group_makes_the_settings():
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    folder = Path(__file__).parents[2] / "conf" / "logger"
    assert OmegaConf.load(folder / "none.yaml") == {}
    loaded = OmegaConf.load(folder / "wandb.yaml")
    assert set(loaded) - {"_target_"} == set(asdict(WandbSettings(project="sgid")))
    assert instantiate(loaded) == WandbSettings(project="sgid")


def test_group_and_tags_can_be_given_on_the_command_line():
    from hydra.utils import instantiate

    from sgid.config.compose import compose

    config = compose(["logger=wandb", "logger.group=main", "logger.tags=[paper,tiny]"])
    assert instantiate(config.logger) == WandbSettings(
        project="sgid", group="main", tags=["paper", "tiny"]
    )
