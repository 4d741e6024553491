"""Training, killed and resumed, and tested once."""

import signal
from functools import partialmethod

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sgid.runtime.signals import Stopped
from sgid.training.trainer import run_test, schedule
from tests.training.small import CPU, PLAN, curves, equal, make, run, weights


@pytest.fixture(scope="module")
def whole(fashion, tmp_path_factory):
    """A training that nothing came in the way of: its folder, metrics, classifier and weights."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(111)
    parts = make(fashion)
    steps = []
    metrics = run(parts, folder, on_step=lambda step, of: steps.append((step, of)))
    assert steps == [(step, 12) for step in range(1, 13)]
    return folder, metrics, parts, weights(parts[0])


@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_killed_and_resumed_it_ends_with_the_same_weights(fashion, whole, tmp_path, step):
    def kill(at, of):
        if at == step:
            raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped):
        run(make(fashion), tmp_path, on_step=kill)
    torch.manual_seed(step)  # another process starts with another state
    classifier, data = make(fashion)
    steps = []
    metrics = run((classifier, data), tmp_path, on_step=lambda at, of: steps.append(at))
    assert steps == list(range(4 * ((step - 1) // 4) + 1, 13))  # the epochs before are not lost
    assert equal(weights(classifier), whole[3])
    assert metrics["validation/top1"] == whole[1]["validation/top1"]
    assert metrics["train/steps"] == 12
    assert curves(tmp_path) == curves(whole[0])
    files = [torch.load(f / "checkpoints/best.ckpt")["state_dict"] for f in (tmp_path, whole[0])]
    assert equal(*files)


def test_loading_processes_do_not_change_that(fashion, whole, tmp_path):
    ended = [whole[3]]  # without any
    for step in (None, 6):
        folder = tmp_path / str(step)

        def kill(at, of, step=step):
            if at == step:
                raise RuntimeError("killed")

        if step:
            with pytest.raises(RuntimeError, match="killed"):
                run(make(fashion, workers=2), folder, on_step=kill)
        classifier, data = make(fashion, workers=2)
        run((classifier, data), folder)
        ended.append(weights(classifier))
    assert equal(*ended[:2]) and equal(*ended[1:])


@pytest.mark.slow
def test_a_compiled_network_is_trained_and_stored_as_any(fashion, whole, tmp_path, monkeypatch):
    # The real backend takes half a minute; what it is handed is traced by this one as well.
    compiled = partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", compiled)
    metrics = run(make(fashion, compile=True), tmp_path)
    assert 0 < metrics["train/compile_seconds"] < metrics["train/seconds"]
    assert "train/compile_seconds" not in whole[1]
    stored = torch.load(tmp_path / "checkpoints/best.ckpt")["state_dict"]
    plain = torch.load(whole[0] / "checkpoints/best.ckpt")["state_dict"]
    assert set(stored) == set(plain)
    for name, value in plain.items():
        torch.testing.assert_close(stored[name], value, atol=0.05, rtol=0.05)
    tested, predictions = run_test(
        *make(fashion), folder=tmp_path / "checkpoints", device=CPU, precision="32-true"
    )
    assert len(predictions) == 300


def test_the_best_checkpoint_holds_weights_alone(whole):
    kept = {one: torch.load(whole[0] / f"checkpoints/{one}.ckpt") for one in ("best", "last")}
    assert "optimizer_states" in kept["last"] and "optimizer_states" not in kept["best"]


@pytest.mark.parametrize("options", [{"layer_decay": 0.5}, {"trained": "head"}])
def test_fine_tuning_resumes_as_well(fashion, tmp_path, options):
    ended = []
    for step in (None, 6):
        folder = tmp_path / str(step)

        def kill(at, of, step=step):
            if at == step:
                raise Stopped(signal.SIGINT)

        if step:
            with pytest.raises(Stopped):
                run(make(fashion, **options), folder, on_step=kill)
        classifier, data = make(fashion, **options)
        before = weights(classifier)
        run((classifier, data), folder)
        ended.append(weights(classifier))
        changed = {name for name, value in before.items() if (value != ended[-1][name]).any()}
        # Validations, which switch modes, have come between.
        assert (changed == {"fc.weight", "fc.bias"}) is ("trained" in options)
    assert equal(*ended)


def test_the_seed_counts(fashion, whole, tmp_path):
    classifier, data = make(fashion, seed=2)
    run((classifier, data), tmp_path)
    assert not equal(weights(classifier), whole[3])


def test_curves(whole):
    rows = curves(whole[0])
    assert [float(row["step"]) for row in rows] == [4, 8, 12]
    assert set(rows[0]) == {"step", "train/loss", "validation/loss", "validation/top1"}
    assert all(float(value) == float(value) for row in rows for value in row.values())
    assert max(float(row["validation/top1"]) for row in rows) == whole[1]["validation/top1"]


class Fixed(nn.Module):
    """A network that says 0 for the share of the images that `shares` has for the epoch, else 1."""

    def __init__(self, shares):
        super().__init__()
        self.shares = shares
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.tensor(-1))

    def forward(self, pixels):
        if self.training:
            return self.weight * torch.ones(len(pixels), 10)
        right = torch.arange(len(pixels)) < self.shares[int(self.epoch)] * len(pixels)
        return nn.functional.one_hot((~right).long(), 10) + self.weight


def test_the_best_epoch_on_validation_is_tested(fashion, tmp_path):
    network = Fixed(shares=[0.25, 0.75, 0.5])
    classifier, data = make(fashion, network=network)
    data.parts["validation"] = TensorDataset(
        torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.zeros(20, dtype=torch.long)
    )
    data.parts["test"] = TensorDataset(
        torch.zeros(40, 3, 32, 32, dtype=torch.uint8), torch.zeros(40, dtype=torch.long)
    )

    def on_step(step, of):
        network.epoch.fill_((step - 1) // PLAN.steps_per_epoch)

    metrics = run((classifier, data), tmp_path, on_step=on_step)
    assert metrics["validation/top1"] == 75
    assert network.epoch == 2  # the last epoch's weights are in memory
    tested, predictions = run_test(
        classifier, data, folder=tmp_path / "checkpoints", device=CPU, precision="32-true"
    )
    assert network.epoch == 1 and tested["test/top1"] == 75
    assert predictions == [0] * 30 + [1] * 10


def test_predictions_are_those_of_each_test_image_in_order(fashion, whole):
    folder, _, (classifier, data), _ = whole
    metrics, predictions = run_test(
        classifier, data, folder=folder / "checkpoints", device=CPU, precision="32-true"
    )
    images, labels = data.parts["test"].tensors
    with torch.no_grad():
        expected = classifier.eval()(images).argmax(1)
    assert predictions == expected.tolist()  # 300 images, in two batches
    accuracy = 100 * (expected == labels).float().mean().item()
    assert metrics["test/top1"] == pytest.approx(accuracy, abs=1e-4)


def test_a_finished_training_is_not_trained_on(fashion, whole):
    classifier, data = make(fashion)
    steps = []
    metrics = run((classifier, data), whole[0], on_step=lambda *step: steps.append(step))
    assert steps == [] and metrics["validation/top1"] == whole[1]["validation/top1"]
    assert len(curves(whole[0])) == 3


class TestSchedule:
    def test_epochs_count_originals_alone(self):
        plan = schedule(steps=None, epochs=10, originals=130, batch_size=64, validations=4)
        assert (plan.epochs, plan.steps_per_epoch, plan.steps) == (4, 8, 32)

    def test_steps(self):
        plan = schedule(steps=400, epochs=None, originals=1, batch_size=64, validations=4)
        assert (plan.epochs, plan.steps_per_epoch) == (4, 100)

    def test_a_remainder_is_rounded_up(self):
        assert schedule(steps=10, epochs=None, originals=1, batch_size=1, validations=3).steps == 12

    def test_no_more_validations_than_steps(self):
        plan = schedule(steps=2, epochs=None, originals=1, batch_size=1, validations=4)
        assert (plan.epochs, plan.steps_per_epoch) == (2, 1)

    @pytest.mark.parametrize(("steps", "epochs"), [(None, None), (10, 10)])
    def test_exactly_one_of_steps_and_epochs(self, steps, epochs):
        with pytest.raises(ValueError, match="give exactly one"):
            schedule(steps=steps, epochs=epochs, originals=9, batch_size=3, validations=1)

    @pytest.mark.parametrize(("steps", "validations"), [(0, 1), (5, 0)])
    def test_nothing_to_do(self, steps, validations):
        with pytest.raises(ValueError, match="at least 1"):
            schedule(steps=steps, epochs=None, originals=9, batch_size=3, validations=validations)
