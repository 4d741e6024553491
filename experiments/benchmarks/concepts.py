"""Cost of methods with learned concepts: what learning takes, and drawing against `sgid`.

    python -m experiments.benchmarks.concepts

The bundled models, ten images of each class, 20 steps; img2img at noise rate 0.5, text-to-image
against `text2img_label`. Of learning a few steps are timed, and multiplied by those of the method's
own settings. Drawing begins where the concepts are there: the tokens and LoRAs are put into the
generator in each round, as in each shard of a run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.common import (
    Target,
    arguments,
    bars,
    finish,
    paired,
    rates,
    ratio,
    table,
)
from sgid.config.compose import compose
from sgid.config.schema import in_slot
from sgid.methods.concepts import Concepts, Learner
from sgid.models.loader import Loaded

AGAINST = {
    **dict.fromkeys(("da_fusion", "diff_mix", "diff_aug", "real_mix", "real_fake"), "sgid"),
    "datadream": "text2img_label",
}
"""The method that each is compared with, which draws as many steps from the same kind of start."""


def main() -> None:
    given = arguments(__doc__, images=256, steps=12, device="cpu")
    names = ["sgid", "text2img_label", *AGAINST]
    with TemporaryDirectory() as artifacts:
        made, whole = augmentations(names, given.device, artifacts)
        learning = {
            name: seconds_per_step(made[name], Path(artifacts), given.steps)
            for name in names
            if isinstance(made[name].method.prepare, Concepts)
        }
        arms = {name: drawing(made[name], given.images) for name in names}
        values = paired(arms, given.rounds)
    classes = len(made["sgid"].dataset.class_names)
    rows = []
    for name, seconds in learning.items():
        total = sum(one.steps for one in whole[name].trainings(made[name].dataset.train))
        minutes = seconds * total / classes / 60
        rows.append((name, f"{seconds * 1000:.0f}", f"{total:,}", f"{minutes:.2g}"))
    columns = ("method", "ms a step", "steps of its settings", "minutes a class")
    targets = [
        Target(f"{name}: time of an image against {other}", ratio(values, other, name), 1.15, False)
        for name, other in AGAINST.items()
    ]
    finish(
        "concepts",
        given.out,
        title="Learned concepts: learning, and images per second, bundled models",
        body=f"{table(columns, rows)}\n\n{rates(values, 'sgid', 'images/s')}",
        targets=targets,
        figure=bars(values, "images per second"),
        data={"images_per_second": values, "seconds_per_step": learning},
    )


def augmentations(names: list[str], device: str, artifacts: str) -> tuple[dict, dict]:
    """Each method with one step to learn, and what it learns by its own settings, by name."""
    from sgid.stages import run

    options = [
        "steps=20", "expansion=5", "dataset.shots=10", f"trainer.device={device}",
        f"paths.artifacts={artifacts}",
    ]  # fmt: skip
    config = compose([f"aug=[{','.join(names)}]", *options])
    whole, loaded = {}, Loaded()
    for one in run.prepare(config, {}, [], loaded=loaded).augmentations:
        whole[one.method.name] = one.method.prepare
    for name, entry in in_slot(config.aug, "offline").items():
        short = []
        if isinstance(whole[name], Concepts):
            short = [f"aug.{name}.prepare.steps=1", f"aug.{name}.prepare.epochs=null"]
        if entry["from_image"]:
            short.append(f"aug.{name}.strength=0.5")
        options += short
    config = compose([f"aug=[{','.join(names)}]", *options])
    run_ = run.prepare(config, {}, [], loaded=loaded)
    return {one.method.name: one for one in run_.augmentations}, whole


def seconds_per_step(augmentation: Any, folder: Path, steps: int) -> float:
    """The median of the steps of a training, the first of which also warms up."""
    concepts, data = augmentation.method.prepare, augmentation.dataset
    learner = Learner(concepts, data.train, data.phrases, augmentation.models, seed=0)
    training = replace(concepts.trainings(data.train)[0], steps=steps)
    times = [time.perf_counter()]
    learner.learn(
        training, folder / "timed" / augmentation.method.name,
        lambda _: times.append(time.perf_counter()),
    )  # fmt: skip
    return statistics.median(b - a for a, b in zip(times[1:], times[2:], strict=False))


def drawing(augmentation: Any, images: int) -> Callable[[], float]:
    """Images per second of the first ones, in the shards of a run."""
    plan = augmentation.plan()
    size = augmentation.settings.shard_size
    shards = [
        plan.requests(range(first, min(first + size, images))) for first in range(0, images, size)
    ]

    def timed() -> float:
        engine = augmentation.models.generator
        engine.known.forget()
        started = time.perf_counter()
        for requests in shards:
            for _ in engine.generate(requests):
                pass
        return images / (time.perf_counter() - started)

    return timed


if __name__ == "__main__":
    main()
