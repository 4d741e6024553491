"""Training images/s of `stage=train` against a bare PyTorch loop over tensors in memory.

    python -m experiments.benchmarks.training --rounds 3
    python -m experiments.benchmarks.training --device cuda --backbone resnet50 --steps 60

Bare: the same network, optimizer, schedule and normalisation, fed slices of one uint8 tensor of
images that are augmented already. Ours: `sgid.training.trainer` with the data module, reading,
flipping and cropping the bundled images. Both leave out their first steps; validation and
checkpoints come after the last one that is timed. The loader alone has nothing but itself to do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from experiments.benchmarks.common import Target, arguments, bars, finish, paired, rates, ratio
from sgid.config.schema import Config

WARM = 5
"""Steps before the clock is started."""


def main() -> None:
    options = arguments(__doc__, device="cpu", backbone="small_resnet", steps=60, workers="0,2")
    device = torch.device(options.device)
    config = configure(options.backbone, options.device)
    workers = [int(count) for count in options.workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        config.paths.artifacts = folder
        make = maker(config, options.steps)
        arms: dict[str, Callable[[], float]] = {"bare loop": lambda: bare(make(0), device)}
        for count in workers:
            arms[f"ours, workers={count}"] = lambda n=count: ours(make(n), config, device)
            arms[f"loader alone, workers={count}"] = lambda n=count: loader(make(n))
        values = paired(arms, options.rounds)
    steps = {name: rounds for name, rounds in values.items() if "loader" not in name}
    best = max(ratio(values, name, "bare loop") for name in steps if name != "bare loop")
    alone = max(ratio(values, name, "bare loop") for name in values if name not in steps)
    finish(
        "training",
        options.out,
        title=f"Training {options.backbone} on {config.dataset.name}",
        body=rates(values, "bare loop", "images/s"),
        targets=[
            Target("training, at the better number of workers, against a bare loop", best, 0.95),
            Target("the loader alone against the training step alone", alone, 1.0),
        ],
        figure=bars(steps, "training images/s"),
        data={"images_per_second": values, "steps": options.steps, "backbone": options.backbone},
    )


def configure(backbone: str, device: str) -> Config:
    """The config of `python run.py aug=flip_crop`, from scratch."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from sgid.config.compose import CONF
    from sgid.config.schema import register

    register()
    overrides = ["aug=[flip_crop]", f"backbone={backbone}", "backbone.weights=null"]
    overrides += [f"trainer.device={device}", "dataset.shots=null"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", overrides))
    assert isinstance(config, Config)
    return config


def maker(config: Config, steps: int) -> Callable[[int], Any]:
    """From a number of workers to a fresh `Training` of `steps` steps; images are decoded once."""
    from sgid.stages.run import prepare
    from sgid.stages.train import keep_decoded

    run = prepare(config, {}, [])
    dataset = run.dataset
    dataset = replace(dataset, validation=dataset.validation.select(range(8)))
    config.backbone.steps, config.backbone.epochs = WARM + steps, None
    config.trainer.validations = 1

    def make(workers: int) -> Any:
        config.trainer.workers = workers
        config.paths.results = tempfile.mkdtemp(dir=config.paths.artifacts)
        training = replace(run, dataset=dataset).training()
        keep_decoded(training, "train", "validation")
        return training

    return make


def bare(training: Any, device: torch.device) -> float:
    """Images/s of a loop that has nothing to do but the steps."""
    model = training.classifier.to(device).train()
    images, labels = (
        torch.cat(parts) for parts in zip(*training.data.train_dataloader(), strict=True)
    )
    images, labels = images.to(device), labels.to(device)
    made = model.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    size = training.data.batch_size
    clock = Clock(device, training.plan.steps)
    for step in range(training.plan.steps):
        batch = images[step * size :][:size], labels[step * size :][:size]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        clock.tick(step + 1)
    return clock.rate(size)


def ours(training: Any, config: Config, device: torch.device) -> float:
    """Images/s of `fit`, from the end of its first steps to the end of its last."""
    from sgid.training.trainer import fit

    clock = Clock(device, training.plan.steps)
    fit(
        training.classifier, training.data, plan=training.plan, folder=training.folder,
        device=device, precision=config.trainer.precision, loggers=[],
        on_step=lambda step, of: clock.tick(step),
    )  # fmt: skip
    return clock.rate(training.data.batch_size)


def loader(training: Any) -> float:
    """Images/s of the batches of an epoch, with nothing done to them."""
    clock = Clock(torch.device("cpu"), training.plan.steps)
    for step, _ in enumerate(training.data.train_dataloader(), 1):
        clock.tick(step)
    return clock.rate(training.data.batch_size)


class Clock:
    """The time from the end of step `WARM` to the end of the last one."""

    def __init__(self, device: torch.device, last: int) -> None:
        self.device = device
        self.last = last
        self.at: dict[int, float] = {}

    def tick(self, step: int) -> None:
        if step in (WARM, self.last):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.at[step] = time.perf_counter()

    def rate(self, batch_size: int) -> float:
        """Images/s."""
        return (self.last - WARM) * batch_size / (self.at[self.last] - self.at[WARM])


if __name__ == "__main__":
    main()
