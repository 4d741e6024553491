"""Checkpoints: whole or not there, without code, and damaged ones are not gone on from."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sgid.runtime.signals import Stopped
from sgid.stages.train import trained as trained_before
from sgid.training.checkpoints import AtomicCheckpoints, content, intact, load
from sgid.training.trainer import run_test
from tests.training.small import CPU, curves, equal, make, run, weights


@pytest.fixture(scope="module")
def trained(fashion, tmp_path_factory):
    """The folder of a training, and the weights it ended with."""
    folder = tmp_path_factory.mktemp("trained")
    parts = make(fashion)
    run(parts, folder)
    return folder, weights(parts[0])


def stopped(fashion, folder):
    """A training that was stopped in its second epoch."""

    def stop(step, of):
        if step == 6:
            raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped):
        run(make(fashion), folder, on_step=stop)
    return folder / "checkpoints"


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
    """One bit of one weight."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
def test_a_damaged_checkpoint_is_set_aside_and_said(
    fashion, trained, tmp_path, damage, name, caplog
):
    folder = stopped(fashion, tmp_path)
    damage(folder / name)
    found = (folder / name).read_bytes() if (folder / name).is_file() else None
    parts, steps = make(fashion), []
    run(parts, tmp_path, on_step=lambda step, of: steps.append(step))
    assert steps[0] == 1 and equal(weights(parts[0]), trained[1])
    assert curves(tmp_path) == curves(trained[0])
    if found is None:
        assert ("best.ckpt is gone: the training starts again" in caplog.text) is ("best" in name)
    else:
        assert f"{name} is damaged and now {name}.broken: the training starts again" in caplog.text
        assert (folder / f"{name}.broken").read_bytes() == found
    assert intact(folder / "last.ckpt") and intact(folder / "best.ckpt")


def test_what_a_training_has_left_counts_only_if_it_is_whole(fashion, tmp_path):
    metrics = run(make(fashion), tmp_path)
    folder = tmp_path / "checkpoints"
    best, said = folder / "best.ckpt", folder / "train.json"
    assert trained_before(folder) is None
    said.write_text(json.dumps(metrics))
    assert trained_before(folder) == metrics
    cut(said)
    assert trained_before(folder) is None
    said.write_text(json.dumps(metrics))
    flip(best)
    assert trained_before(folder) is None


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    "save", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))]
)
def test_code_in_a_checkpoint_is_never_run(fashion, trained, tmp_path, save):
    folder = stopped(fashion, tmp_path)
    held = load(folder / "last.ckpt")
    save({**held, "more": Bomb(tmp_path / "ran")}, folder / "last.ckpt")
    save({**held, "more": Bomb(tmp_path / "ran")}, folder / "best.ckpt")
    with pytest.raises(ValueError, match="last.ckpt holds more than weights and numbers"):
        AtomicCheckpoints().load_checkpoint(folder / "last.ckpt", weights_only=False)
    with pytest.raises(ValueError, match="best.ckpt holds more than weights and numbers"):
        run_test(*make(fashion), folder=folder, device=CPU, precision="32-true")
    parts = make(fashion)
    if intact(folder / "last.ckpt"):
        with pytest.raises(ValueError, match="last.ckpt holds more than weights and numbers"):
            run(parts, tmp_path)
    else:  # no archive at all: set aside unread
        run(parts, tmp_path)
        assert equal(weights(parts[0]), trained[1])
    assert not (tmp_path / "ran").exists()


WRITER = """
import sys, torch
from pathlib import Path
from sgid.training.checkpoints import AtomicCheckpoints
for number in range(10**6):
    state = {"state_dict": {"w": torch.full((2**20,), number)}}
    AtomicCheckpoints().save_checkpoint(state, sys.argv[1])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(3):
            assert process.stdout and process.stdout.readline()
        for pause in range(200):  # until it is caught with an unfinished file
            time.sleep(0.001 * (pause % 7))
            os.kill(process.pid, signal.SIGSTOP)
            if list(tmp_path.glob(".last.ckpt.*.tmp")):
                break
            os.kill(process.pid, signal.SIGCONT)
    finally:
        process.kill()
        process.wait()
    assert list(tmp_path.glob(".last.ckpt.*.tmp"))
    assert intact(path)
    values = load(path)["state_dict"]["w"].unique()
    assert len(values) == 1 and values[0] >= 2


def test_content_is_that_of_the_weights_alone(fashion, trained, tmp_path):
    best = trained[0] / "checkpoints/best.ckpt"
    held = load(best)
    again = tmp_path / "again.ckpt"
    changed = {**held, "state_dict": dict(reversed(held["state_dict"].items())), "epoch": 99}
    torch.save(changed, again)
    assert content(again) == content(best) and len(content(best)) == 16

    state = held["state_dict"]
    name = "network.fc.weight"
    twisted = state[name].clone()
    twisted[0, 0] = torch.nextafter(twisted[0, 0], torch.tensor(9.0))
    others = (
        {**state, name: twisted},
        {**state, name: state[name].T},
        {**state, name: state[name].view(torch.int32)},
        {**state, "network.fc.wait": state[name]},
        {key: value for key, value in state.items() if key != name},
    )
    for other in others:
        torch.save({"state_dict": other}, again)
        assert content(again) != content(best)
