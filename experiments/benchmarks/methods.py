"""Speed of each generative method beside `sgid`, on the same originals.

    python -m experiments.benchmarks.methods
    python -m experiments.benchmarks.methods --images 64 --noise-rate 0.5

Methods that start from an image do so at one noise rate, so that all run the same steps; those that
start from noise run all of them. A method that selects draws each image once, or as many times as
it has noise rates (genie_ada). Captions, classifiers and inversions are made before the clock runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.common import Target, arguments, bars, finish, paired, rates
from experiments.benchmarks.generation import rate
from sgid.config.compose import compose
from sgid.models.loader import Loaded

LIKE_SGID = ("real_guidance", "disef", "discl", "alia", "diagen")
LIMITS = {**dict.fromkeys(LIKE_SGID, 1.15), "gif": 2.0, "distdiff": 4.0}
OTHERS = ("genie_ada", "feedback_guided", "noise_cutmix", "diff_ii")
AGAINST = "sgid"


def main() -> None:
    given = arguments(__doc__, images=32, noise_rate=0.7, device="cpu", methods="")
    loaded = Loaded()
    names = given.methods.split(",") if given.methods else [*LIMITS, *OTHERS]
    with TemporaryDirectory() as artifacts:
        arms = {name: arm(name, given, artifacts, loaded) for name in (AGAINST, *names)}
        values = paired(arms, given.rounds)
    targets = [
        Target(f"time of {name} against {AGAINST}", slower(values, name), limit, higher=False)
        for name, limit in LIMITS.items()
        if name in names
    ]
    finish(
        "methods",
        given.out,
        title=f"Methods side by side, bundled models, {given.images} images",
        body=rates(values, AGAINST, "images/s"),
        targets=targets,
        figure=bars(values, "images/s"),
        data={"images_per_second": values},
    )


def slower(values: dict[str, list[float]], name: str) -> float:
    """The median over the rounds of a method's time divided by sgid's in the same round."""
    pairs = zip(values[AGAINST], values[name], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def arm(name: str, given: Any, artifacts: str, loaded: Any) -> Callable[[], float]:
    """Images per second of a method, that draws for as many originals as there are images."""
    from sgid.stages import run
    from sgid.stages.augment import drawn

    shots = max(2, -(-given.images // 10))
    config = compose([
        f"aug={name}", "steps=20", f"noise_rate={given.noise_rate}", "expansion=1",
        f"dataset.shots={shots}", f"trainer.device={given.device}", f"paths.artifacts={artifacts}",
    ])  # fmt: skip
    prepared = run.prepare(config, {}, [], loaded=loaded)
    (augmentation,) = prepared.augmentations
    plan = augmentation.plan()
    method = plan.method
    if method.from_image and name != "genie_ada":
        method = replace(method, strength=given.noise_rate)
    if getattr(method.select, "keywords", {}).get("attempts"):
        method = replace(method, select=partial(method.select, attempts=1))
    plan = replace(plan, method=method)
    requests = plan.requests(range(given.images))
    engine = prepared.models.generator
    list(drawn(requests[:4], plan, prepared.models))  # what is loaded at the first call

    def draw() -> None:
        engine.known.forget()
        list(drawn(requests, plan, prepared.models))

    return rate(given.images, draw)


if __name__ == "__main__":
    main()
