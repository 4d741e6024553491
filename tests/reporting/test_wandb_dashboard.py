"""The dashboard asks for nothing that a run does not log."""

from collections.abc import Iterator
from typing import Any

import pytest

from experiments.dashboard import as_sent, report, workspace
from tests.data.writers import write_folder
from tests.end_to_end.command import SHORT, Place
from tests.reporting.wandb_file import read_back


def asked_for(node: Any) -> Iterator[str]:
    """Names in the panels and run sets of a view, as `summary:`, `history:` or `config:`."""
    if isinstance(node, list):
        for one in node:
            yield from asked_for(one)
    elif isinstance(node, dict):
        kind = node.get("viewType")
        config = node.get("config", {})
        if kind == "Bar Chart":
            yield from (f"summary:{name}" for name in config["metrics"])
        elif kind == "Run History Line Plot":
            yield from (f"history:{name}" for name in [config["xAxis"], *config["metrics"]])
        elif kind == "Scatter Plot":
            yield from (config[axis] for axis in ("xAxis", "yAxis", "zAxis") if axis in config)
        elif kind == "Parallel Coordinates Plot":
            yield from (column["accessor"] for column in config["columns"])
        elif kind == "Media Browser":
            yield from (f"media:{name}" for name in config["mediaKeys"])
        elif kind == "Weave":
            yield f"media:{config['panel2Config']['exp']['fromOp']['inputs']['key']['val']}"
        elif kind is not None:
            raise AssertionError(f"a panel that is not looked into: {kind}")
        if "groupBy" in config:
            yield f"config:{config['groupBy']}"
        yield from (name for name in node.get("columnPinned", {}) if not name.startswith("run:"))
        if node.get("section") in ("config", "summary"):  # of groupings, filters and orders
            yield f"{node['section']}:{node['name']}"
        for one in node.values():
            yield from asked_for(one)


def known(name: str, read: Any) -> bool:
    section, _, rest = name.partition(":")
    if section == "config":
        return rest.removesuffix(".value") in read.config
    if section == "history":
        return any(rest in row for row in read.history)
    if section == "media":
        return f"{rest}._type" in read.media
    return rest in read.summary


@pytest.fixture(scope="module")
def views():
    return [as_sent(workspace("me", "sgid")), as_sent(report("me", "sgid", ["mine"]))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The W&B run of `python run.py logger=wandb`."""
    place = Place(tmp_path_factory.mktemp("dashboard"))
    images = write_folder(place.top / "images", {"bag": 8, "coat": 8}, size=32)
    own = ("dataset=folder", f"dataset.root={images}", "models=tiny", "backbone=small_resnet")
    wandb = ("logger=wandb", "logger.group=mine", "logger.tags=[one,two]")
    place.run(*own, *SHORT, "expansion=2", *wandb, WANDB_MODE="offline").good()
    (folder,) = place.results.iterdir()
    return read_back(folder)


def test_all_that_is_shown_is_logged(run, views):
    for view in views:
        names = set(asked_for(view))
        assert {"summary:test/top1", "config:arm.value", "media:augmented"} <= names
        assert [name for name in sorted(names) if not known(name, run)] == []


def test_a_run_is_found_by_the_group_and_tags_of_the_command_line(run):
    assert run.run.run_group == "mine" and {"one", "two"} <= set(run.run.tags)
    assert "logger.group=mine" in run.run.notes


def test_the_run_that_made_its_stores_says_so(run):
    kinds = {one.type: one for one in run.artifacts.values()}
    assert set(kinds) == {"described", "generated", "result"}
    assert not kinds["generated"].use_after_commit
    assert len(run.config["stores_made"]) == 2
