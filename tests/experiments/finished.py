"""Results as runs leave them, without the runs."""

from itertools import product
from pathlib import Path

import numpy as np

from experiments.paper.page import Page
from sgid.reporting.results import Generation, Result

MEASURES = {"cosine": 0.9, "label_agreement": 88.0, "diversity": 0.04}
OFFLINE = {"slot": "offline"}
GENERATIVE = (
    *("sgid", "no_label", "no_caption", "fixed_guidance", "random_caption"),
    *("img2img_plain", "text2img_label"),
)


def run(
    folder: Path,
    aug: tuple[str, ...],
    seed: int = 0,
    *,
    test: float = 70.0,
    validation: float | None = None,
    dataset: str = "fashion",
    backbone: str = "small_resnet",
    noise_rate: float = 0.7,
    scale: float = 5.0,
    ratio: int = 5,
    images_per_class: int = 20,
    measures: dict[str, float | None] | None = None,
    seconds: float = 0.0,
) -> Result:
    """A finished run with that test top-1."""
    made = [name for name in aug if name in GENERATIVE]
    offline = {name: {**OFFLINE, "prompt": name} for name in made}
    return Result(
        folder=folder,
        fingerprint=f"{aug}-{seed}-{dataset}-{backbone}-{noise_rate}-{scale}-{ratio}",
        choices={"dataset": dataset, "backbone": backbone, "models": "tiny", "guidance": "fixed",
                 "filter": "none", "aug": list(aug)},
        seed=seed,
        config={
            "seed": seed,
            "noise_rate": noise_rate,
            "expansion": ratio,
            "guidance": {"scale": scale},
            "models": {"name": "tiny"},
            "dataset": {"name": dataset, "shots": images_per_class},
            "backbone": {"name": backbone},
            "aug": {name: offline.get(name, {"slot": "online"}) for name in aug},
        },
        protocol={"train": 200, "validation": 100, "test": 1000},
        metrics={"test/top1": test, "validation/top1": validation if validation else test + 1},
        generated=tuple(
            Generation(
                method=name,
                path=f"generated/{name}-{seed}-{noise_rate}-{scale}",
                images=100,
                histograms={},
                cosine_per_class={"coat": 0.8 + 0.01 * seed, "dress": 0.9},
                filter=None,
                measures={**MEASURES, **(measures or {})},
            )
            for name in made
        ),
        overrides=(),
        seconds={"augment": seconds},
        stores=(),
        versions={},
        commit=None,
        finished="2026-11-22",
    )  # fmt: skip


def runs(folder: Path, tests: dict[tuple[str, ...], list[float]], **settings) -> list[Result]:
    """A run for each augmentation and seed."""
    return [
        run(folder, aug, seed, test=test, **settings)
        for aug, values in tests.items()
        for seed, test in enumerate(values)
    ]


def text(page: Page) -> str:
    return "\n".join(page.findings)


def column(page: Page, table: str, header: str) -> list:
    place = page.tables[table].headers.index(header)
    return [row[place] for row in page.tables[table].rows]


def lots(folder: Path) -> list[Result]:
    """Runs of all kinds on two datasets with two backbones, of which none is better."""
    rng = np.random.default_rng(0)
    arms = [("none",), ("flip_crop",), ("mixup",), ("cutmix",), ("sgid",), ("text2img_label",)]
    arms += [("sgid", "mixup"), ("sgid", "cutmix"), ("no_label",), ("img2img_plain",)]
    places = product(("fashion", "cars"), ("small_resnet", "small_vit"))
    return [
        run(folder, aug, seed, test=70 + rng.normal(), dataset=d, backbone=b)
        for d, b in places
        for aug in arms
        for seed in range(3)
    ]
