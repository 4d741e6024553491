"""The dashboard's command, its layout, and the sweep file, without a server."""

import json
from itertools import product
from pathlib import Path

import pytest
import yaml

from experiments.dashboard import SHOWN, as_sent, main, report, sections, workspace
from experiments.paper.scales import NAMES
from sgid.config.compose import compose

SWEEP = Path(__file__).parents[2] / "experiments" / "wandb_sweep.yaml"


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


def test_every_experiment_of_the_paper_that_runs_anything_has_a_part():
    assert set(SHOWN) <= set(NAMES)
    made = {"main", "combination", "ablation", "noise_guidance", "expansion", "shots"}
    assert made <= set(SHOWN)
    assert {name for names in SHOWN.values() for name in names} <= set(sections())
    spec = as_sent(workspace("me", "sgid"))["spec"]["section"]
    assert [one["name"] for one in spec["panelBankConfig"]["sections"]] == list(sections())


def test_a_part_of_the_report_has_the_runs_of_its_group_alone():
    blocks = as_sent(report("me", "sgid", ["mine", "main"]))["spec"]["blocks"]
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    filters = {
        grid["runSets"][0]["name"]: grid["runSets"][0]["filters"]["filters"][0] for grid in grids
    }
    assert list(filters) == [*SHOWN, "mine"]
    for name, one in filters.items():
        assert one["key"] == {"section": "run", "name": "group"} and one["value"] == name
    assert not any("project" in grid["runSets"][0] for grid in grids), "it is the report's own"


def test_no_panel_covers_another():
    for block in as_sent(report("me", "sgid", ["mine"]))["spec"]["blocks"]:
        if block["type"] != "panel-grid":
            continue
        taken: set[tuple[int, int]] = set()
        for panel in block["metadata"]["panelBankSectionConfig"]["panels"]:
            at = panel["layout"]
            across, down = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
            cells = set(product(across, down))
            assert max(across) < 24 and not cells & taken
            taken |= cells


@pytest.mark.parametrize("how", ["--dry-run", "offline"])
def test_what_would_be_sent_can_be_looked_at(tmp_path, nobody, monkeypatch, capsys, how):
    if how == "offline":
        monkeypatch.setenv("WANDB_MODE", "offline")
    words = ["--entity", "me", "--project", "p", "--output", str(tmp_path / "views")]
    assert main([*words, *([how] if how.startswith("--") else [])]) == 0
    for name in ("workspace", "report"):
        path = tmp_path / "views" / f"{name}.json"
        assert f"not sent: {path}" in capsys.readouterr().out or name == "report"
        assert json.loads(path.read_text())


def test_nobody_logged_in_is_refused(tmp_path, nobody, capsys):
    assert main(["--entity", "me", "--output", str(tmp_path / "views")]) == 1
    error = capsys.readouterr().err
    assert "nobody is logged in" in error and "wandb login" in error and "--dry-run" in error
    assert not (tmp_path / "views").exists()


def test_each_command_of_the_sweep_is_one_that_run_py_takes():
    from omegaconf import OmegaConf
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load(SWEEP.read_text())
    assert (SWEEP.parents[1] / sweep["program"]).is_file()
    fixed = [word for word in sweep["command"] if "=" in word]
    choices = {name: one["values"] for name, one in sweep["parameters"].items()}
    for turn in range(max(map(len, choices.values()))):  # each value at least once
        given = {name: values[turn % len(values)] for name, values in choices.items()}
        words = create_sweep_command_args(
            {"args": {name: {"value": value} for name, value in given.items()}}
        )["args_no_hyphens"]
        config = OmegaConf.structured(compose([*fixed, *words]))
        for name, value in given.items():
            assert OmegaConf.select(config, name) == value
    assert config.logger["_target_"].endswith("WandbSettings")
    assert sweep["metric"] == {"name": "validation/top1", "goal": "maximize"}
