"""Two processes that train together, by gloo on a CPU, held to one process that trains alone."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import convert_sync_batchnorm
from torch.utils.data import TensorDataset

from sgid.runtime.signals import Stopped
from sgid.training.checkpoints import load
from sgid.training.distributed import check_devices, fit_together
from sgid.training.mixing import Mixed
from sgid.training.transforms import evaluation_transform
from tests.training.small import CPU, PLAN, curves, equal, make, random_part, run

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")


def together(parts, folder, devices=2, **options):
    shared = {"plan": PLAN, "folder": folder / "checkpoints", "device": CPU}
    return fit_together(devices, *parts, **shared, precision="32-true", **options)


def state(folder, name="best"):
    return load(folder / f"checkpoints/{name}.ckpt")["state_dict"]


def plain(fashion):
    """A training in which a process draws nothing of its own, and the batch norms stand still."""
    classifier, data = make(fashion, trained="head")
    classifier.network.drop_rate = 0.0
    classifier.batch_transform = None
    data.parts["train"] = Mixed(fashion, transform=evaluation_transform(32))
    data.parts["validation"] = random_part(53, 3)  # 26, 26 and 1
    return classifier, data


def test_two_processes_end_where_one_does(fashion, tmp_path):
    alone = run(plain(fashion), tmp_path / "one")
    steps, rows = [], []
    both = together(
        plain(fashion), tmp_path / "two",
        on_step=lambda *step: steps.append(step), on_epoch=rows.append,
    )  # fmt: skip
    assert steps == [(step, 12) for step in range(1, 13)]
    assert both["validation/top1"] == pytest.approx(alone["validation/top1"], abs=1e-4)
    assert both["train/steps"] == 12
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert [row["step"] for row in rows] == [4, 8, 12]
    for expected, found, told in zip(one, two, rows, strict=True):
        assert {name: float(value) for name, value in found.items()} == told
        for name, value in expected.items():
            assert told[name] == pytest.approx(float(value), abs=1e-4), name
    expected, found = state(tmp_path / "one", "last"), state(tmp_path / "two", "last")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)
    assert not equal(expected, plain(fashion)[0].state_dict())  # something was learnt


def marked(count, seed):
    """Noise with a column that tells the class: learnt in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images[torch.arange(count), :, :, labels * 3] = 255
    return TensorDataset(images, labels)


def learnable(fashion):
    classifier, data = make(fashion)
    data.parts |= {"train": marked(40, 1), "validation": marked(61, 2)}
    return classifier, data


@pytest.mark.slow
def test_a_killed_process_ends_the_training_and_the_rerun_goes_on(fashion, tmp_path):
    """As it would have; and what comes of it is what one process makes, within noise."""
    whole = together(learnable(fashion), tmp_path / "whole")

    def kill(step, of):
        if step == 6:
            os.kill(children()[1], signal.SIGKILL)

    with pytest.raises(ChildProcessError, match=r"trainer.devices=2: process \d of .*\(SIGKILL\)"):
        together(learnable(fashion), tmp_path / "killed", on_step=kill)
    assert children() == []
    steps = []
    again = together(
        learnable(fashion), tmp_path / "killed", on_step=lambda step, of: steps.append(step)
    )
    assert steps[0] in (5, 9) and steps[-1] == 12  # whole epochs are kept
    assert again["validation/top1"] == whole["validation/top1"]
    assert equal(state(tmp_path / "killed"), state(tmp_path / "whole"))
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")

    run(learnable(fashion), tmp_path / "alone")
    for expected, found in zip(curves(tmp_path / "alone"), curves(tmp_path / "whole"), strict=True):
        assert float(found["train/loss"]) == pytest.approx(float(expected["train/loss"]), abs=0.3)


def children(parent=None):
    """The processes that Python has started from here to train, by their id."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, owner = (
                int(stat.parent.name),
                int(stat.read_text().rpartition(")")[2].split()[1]),
            )
            command = (stat.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if owner == (parent or os.getpid()) and b"spawn_main" in command:
            found.append(number)
    return sorted(found)


def alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_what_one_process_says_to_people_comes_out_alone(fashion, tmp_path):
    classifier, data = make(fashion)
    classifier.optimizer = partial(torch.optim.SGD, lr=1e30)
    with pytest.raises(ValueError, match=": lower backbone.optimizer.lr") as caught:
        together((classifier, data), tmp_path)
    assert "of the training failed" in str(caught.value.__cause__)  # its traceback is not lost
    assert children() == [] and not (tmp_path / "checkpoints/best.ckpt").is_file()


def test_a_stop_ends_them_all_whatever_they_do(fashion, tmp_path):
    def stop(number, frame):
        assert len(children()) == 2
        raise Stopped(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)  # while they are still importing
    try:
        with pytest.raises(Stopped):
            together(make(fashion), tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert children() == []


PARENT = """
    import sys
    from pathlib import Path
    from tests.training.small import bundled, make
    from tests.training.test_distributed import together

    if __name__ == "__main__":
        tell = lambda *step: print(*step, flush=True)
        together(make(bundled(), workers=1), Path(sys.argv[1]), on_step=tell)
"""


@pytest.mark.slow
def test_none_of_them_outlives_the_one_that_started_them(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert parent.stdout and parent.stdout.readline().startswith("1 ")
        started = children(parent.pid)
        loading = [number for one in started for number in offspring(one)]
        assert len(started) == 2 and len(loading) >= 2
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + 600
    while any(map(alive, started + loading)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, started + loading))


def offspring(number):
    tasks = Path(f"/proc/{number}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


def test_what_cannot_train_together(fashion, tmp_path):
    with pytest.raises(ValueError, match="devices=2: not with trainer.device=mps"):
        check_devices(torch.device("mps"), 2)
    with pytest.raises(ValueError, match="not with trainer.device=cuda:1; trainer.device=cuda has"):
        check_devices(torch.device("cuda:1"), 2)
    with pytest.raises(ValueError, match="devices=99: this machine has . GPUs"):
        check_devices(torch.device("cuda"), 99)
    with pytest.raises(ValueError, match="devices=21: there are only 20 images to validate on"):
        together(make(fashion), tmp_path, devices=21)
    classifier, data = make(fashion)
    classifier.optimizer = lambda weights: torch.optim.SGD(weights)
    with pytest.raises(ValueError, match="cannot be handed to other processes.*trainer.devices=1"):
        together((classifier, data), tmp_path)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_norms_that_are_synchronised_stay_what_they_were(name):
    """The way that is taken on GPUs; PyTorch's own loses the activations in timm's norms."""
    network = timm.create_model(name, num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        found = convert_sync_batchnorm(network).eval()(images)
    torch.testing.assert_close(found, expected)
