"""What stops a training, or breaks it, comes out as what it was."""

import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from sgid.runtime.signals import Stopped, stop_on_signals
from sgid.training.mixing import Mixed
from sgid.training.trainer import run_test
from sgid.training.transforms import evaluation_transform
from tests.training.small import CPU, curves, equal, make, run, weights


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("slurm", [False, True])
def test_a_signal_stops_a_training_as_itself(fashion, tmp_path, number, slurm, monkeypatch):
    if slurm:  # Lightning would put itself between the job's signals and us
        for name, value in {"JOB_ID": "1", "NTASKS": "1", "JOB_NAME": "x", "PROCID": "0",
                            "LOCALID": "0", "NODEID": "0", "NODELIST": "here"}.items():  # fmt: skip
            monkeypatch.setenv(f"SLURM_{name}", value)
    handlers, steps = [], []

    def stop(step, of):
        steps.append(step)
        if step == 6:
            os.kill(os.getpid(), number)

    with stop_on_signals():
        before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(Stopped) as stopped:
            run(make(fashion), tmp_path, on_step=stop)
        handlers += [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    assert stopped.value.signal == number
    assert steps[-1] == 6 and handlers == before  # at once, and the next one is heard as well
    classifier, data = make(fashion)
    run((classifier, data), tmp_path, on_step=lambda step, of: steps.append(step))
    assert steps == [*range(1, 7), *range(5, 13)]


def test_a_signal_stops_a_test_as_itself(fashion, tmp_path):
    run(make(fashion), tmp_path)
    options = {"folder": tmp_path / "checkpoints", "device": CPU, "precision": "32-true"}
    with stop_on_signals(), pytest.raises(Stopped):
        stop = partial(os.kill, os.getpid(), signal.SIGTERM)
        run_test(*make(fashion), **options, on_batch=stop)


class Hungry(nn.Linear):
    """Wants memory that there is not."""

    def __init__(self):
        super().__init__(3 * 32 * 32, 10)

    def forward(self, pixels):
        torch.empty(2**50)
        return super().forward(pixels.flatten(1))


def test_memory_that_runs_out_names_the_options_that_take_less(fashion, tmp_path):
    options = r"backbone.batch_size \(now 10\) or backbone.image_size.*trainer.precision=bf16-mixed"
    network = nn.Sequential(Hungry())
    with pytest.raises(ValueError, match=f"Memory ran out in training: lower {options}"):
        run(make(fashion, network=network), tmp_path)

    def cuda(step, of):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    with pytest.raises(ValueError, match=rf"{options} \(now 32-true\).*20.00 MiB"):
        run(make(fashion), tmp_path, on_step=cuda)


def test_other_errors_stay_what_they_are(fashion, tmp_path):
    def fail(step, of):
        raise RuntimeError("of another kind")

    with pytest.raises(RuntimeError, match="^of another kind$"):
        run(make(fashion), tmp_path, on_step=fail)


def workers():
    """The processes of this one that load data."""
    found = Path("/proc/self/task").glob("*/children")
    return [int(word) for task in found for word in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_a_loading_process_that_dies_is_told_and_the_rerun_goes_on(fashion, tmp_path, killed_here):
    def plain(number):
        classifier, data = make(fashion, workers=number)
        data.parts["train"] = Mixed(fashion, transform=evaluation_transform(32))
        return classifier, data

    before, steps = set(workers()), []

    def kill(step, of):
        steps.append(step)
        if step == 6:
            loading = sorted(set(workers()) - before)
            os.kill(loading[0], signal.SIGKILL)
            os.kill(loading[1], signal.SIGKILL)

    watchdog = threading.Timer(120, partial(os.kill, os.getpid(), signal.SIGABRT))  # no hang
    watchdog.start()
    try:
        with pytest.raises(ChildProcessError, match="loads images died.*lower trainer.workers"):
            run(plain(2), tmp_path, on_step=kill)
    finally:
        watchdog.cancel()
    assert steps[-1] < 12
    whole = plain(0)
    run(whole, tmp_path / "whole")
    again = plain(0)
    run(again, tmp_path, on_step=lambda step, of: steps.append(step))
    assert 1 not in steps[steps.index(6) + 1 :] and equal(weights(again[0]), weights(whole[0]))
    assert curves(tmp_path) == curves(tmp_path / "whole")


@pytest.mark.parametrize(("step", "told"), [(1, 2), (3, 4), (4, 4)])
def test_a_loss_that_is_no_number_is_no_result(fashion, tmp_path, step, told):
    """Nor are weights that the last step before a validation has spoilt."""
    classifier, data = make(fashion)

    def spoil(at, of):
        if at == step:
            with torch.no_grad():
                classifier.network.fc.weight.fill_(float("nan"))

    with pytest.raises(ValueError, match=f"The loss is nan at step {told}: lower") as caught:
        run((classifier, data), tmp_path, on_step=spoil)
    assert "lower backbone.optimizer.lr (the learning rate is 0.0" in str(caught.value)
    assert "trainer.precision=32-true (now 32-true)" in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("curves.csv"))
