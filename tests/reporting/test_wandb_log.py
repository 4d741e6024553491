"""An offline W&B run, read back from its own file."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgid.reporting.report import write_report
from sgid.reporting.wandb_log import STEP, WandbSettings, log_run, open_run

BLOCK = 32768


def read_back(folder: Path) -> list[Any]:
    """All records of the one offline run of a result folder.

    `finish()` may return before W&B's own process has written the last of them.
    """
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(100):
        read = list(records(path))
        if read and read[-1].WhichOneof("record_type") == "exit":
            return read
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written to its end")


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def flat(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)


def test_one_offline_run_holds_live_curves_and_the_report(make_run, offline):
    import wandb

    result = make_run(["sgid"], side=8, filtered=True)
    write_report(result.folder, None)
    chosen = WandbSettings(project="test", tags=["paper"])
    live = open_run(
        chosen, result.folder, config=result.config, choices=result.choices, seed=result.seed
    )
    live.log({"train/loss": 2.0, STEP: 10})
    log_run(result, result.folder, chosen)
    assert wandb.run is None

    read = read_back(result.folder)
    (begun,) = (record.run for record in read if record.WhichOneof("record_type") == "run")
    assert (begun.run_id, begun.project) == (result.fingerprint, "test")
    assert set(begun.tags) == {"paper", "fashion", "small_resnet", "sgid"}
    assert begun.run_group.startswith("fashion small_resnet sgid ")
    assert flat(begun.config.update)["noise_rate"] == 0.5

    rows = [flat(r.history.item) for r in read if r.WhichOneof("record_type") == "history"]
    # logged live, so not once more from curves.csv
    assert [row["train/loss"] for row in rows if "train/loss" in row] == [2.0]
    media = {key: value for row in rows for key, value in row.items()}
    assert media["report/examples._type"] == "image-file"
    assert media["augmented.nrows"] == 6 * 5
    (table,) = result.folder.glob("wandb/offline-run-*/files/media/table/augmented_*.json")
    written = json.loads(table.read_text())
    kept = [row[written["columns"].index("kept")] for row in written["data"]]
    assert kept == [True, False, True, True, True] * 6
    summary: dict[str, Any] = {}
    for record in read:
        if record.WhichOneof("record_type") == "summary":
            summary |= flat(record.summary.update)
    assert summary["test/top1"] == result.metrics["test/top1"]
    assert not any(key.startswith("test/top1/") for key in summary)
    assert list(result.folder.glob("wandb/artifacts/staging/*")), "images stay with the run"


def test_curves_are_taken_from_the_folder_where_none_were_live(make_run, offline):
    result = make_run(["none"], side=8)
    log_run(result, result.folder, WandbSettings(project="test", group="mine"))
    read = read_back(result.folder)
    rows = [flat(r.history.item) for r in read if r.WhichOneof("record_type") == "history"]
    curve = [(row[STEP], row["train/loss"]) for row in rows if "train/loss" in row]
    assert len(curve) == 41 and curve[0] == (0, 2.3)
    (begun,) = (record.run for record in read if record.WhichOneof("record_type") == "run")
    assert begun.run_group == "mine"


def test_the_config_group_makes_the_settings():
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    folder = Path(__file__).parents[2] / "conf" / "logger"
    assert OmegaConf.load(folder / "none.yaml") == {}
    settings = instantiate(OmegaConf.load(folder / "wandb.yaml"))
    assert settings == WandbSettings(project="sgid")
