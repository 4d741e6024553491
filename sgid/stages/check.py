"""`stage=check`: whether this machine draws right, from a few images drawn in several ways.

The same requests are drawn in one batch and one by one on the device of the run, and on the CPU in
float32. Devices, drivers and libraries that compute wrong images are found by their differences.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL.Image import Image
from rich.console import Console

from sgid.config.schema import ModelsConfig
from sgid.data.dataset import Dataset
from sgid.evaluation.store_summary import spread
from sgid.generation.stable_diffusion import Engine
from sgid.methods.guidance import fixed
from sgid.methods.method import Method
from sgid.methods.requests import RequestPlan, Undescribed
from sgid.models.loader import Models
from sgid.models.weights import Weights
from sgid.records import Request
from sgid.reporting.table import Cell, Table
from sgid.runtime.device import pick_dtype

IMAGES = 4
"""Images that are drawn together on the device."""

ON_CPU = 1
"""Images that are drawn on the CPU as well, which takes a large model a minute each."""

Images = Sequence[Image]


@dataclass(frozen=True)
class Limit:
    """Differences that rounding explains, in grey levels: of the mean, and of the largest."""

    mean: float
    largest: float = 255


EXACT = Limit(0.1, 1)
"""On one device in float32: what `docs/method.md` promises."""

OTHER_DEVICE = Limit(2)
"""Between devices in float32, of which some multiply in less (TF32)."""

NARROW = Limit(5)
"""In float16 or bfloat16, which promise nothing about single pixels.

What a wrong computation gives, another noise or a black image, differs by tens of levels.
"""


@dataclass(frozen=True)
class Comparison:
    """Two ways to draw the same images, and how far they are apart in grey levels."""

    what: str
    mean: float
    largest: float
    limit: Limit

    @property
    def right(self) -> bool:
        return self.mean <= self.limit.mean and self.largest <= self.limit.largest


def compare(what: str, some: Images, others: Images, limit: Limit) -> Comparison:
    """Compare images with others of the same requests, pixel by pixel."""
    pairs = zip(some, others, strict=True)
    apart = [np.abs(np.asarray(a, float) - np.asarray(b, float)) for a, b in pairs]
    mean = float(np.mean([one.mean() for one in apart]))
    return Comparison(what, mean, max(float(one.max()) for one in apart), limit)


def draw(engine: Engine, requests: Sequence[Request]) -> list[Image]:
    """The images of the requests, in their order."""
    made = {id(one.request): one.image for one in engine.generate(requests)}
    return [made[id(request)] for request in requests]


def draw_one_by_one(engine: Engine, requests: Sequence[Request]) -> list[Image]:
    return [image for request in requests for image in draw(engine, [request])]


def requests_of(
    dataset: Dataset, settings: ModelsConfig, *, strength: float, seed: int
) -> list[Request]:
    """Requests to re-draw a few training images from their labels, all alike but for those."""
    images = dataset.train.select(spread(dataset.train, IMAGES))
    guidance = partial(fixed, scale=settings.guidance_scale)
    method = Method("check", "a photo of a {label}", True, strength, guidance)
    generator = settings.generator
    plan = RequestPlan(
        images=images,
        described=Undescribed(images),
        similarities=np.full(len(images), np.nan),
        method=method,
        words=dataset.words,
        expansion=1,
        seed=seed,
        resolution=generator.resolution,
        multiple=generator.size_multiple,
    )
    # Those of another size would not share the batch.
    made = plan.requests(range(len(plan)))
    sizes = [one.init_image.size for one in made if one.init_image]
    return [one for one, size in zip(made, sizes, strict=True) if size == sizes[0]]


def check(
    dataset: Dataset, models: Models, *, strength: float, seed: int, console: Console
) -> None:
    """Draw, compare, and print the differences.

    Raises:
        ValueError: if images differ by more than rounding explains.
    """
    device, settings = models.device, models.settings
    dtype = str(pick_dtype(settings.generator.dtype, device)).removeprefix("torch.")
    requests = requests_of(dataset, settings, strength=strength, seed=seed)

    def engine(device_name: str, dtype: str) -> Callable[[], Engine]:
        return lambda: _engine(settings, models.weights, device_name, dtype, models.steps)

    comparisons = compare_ways(
        requests,
        here=engine(str(device), dtype),
        exact_here=engine(str(device), "float32") if dtype != "float32" else None,
        on_cpu=engine("cpu", "float32") if device.type != "cpu" else None,
        names=(str(device), dtype),
    )
    table_of(comparisons, console, machine(device))
    if wrong := [one.what for one in comparisons if not one.right]:
        raise ValueError(
            f"This machine does not draw as it should: {'; '.join(wrong)}. Take another number "
            "format (models.generator.dtype=float32, or bfloat16), another device "
            "(trainer.device=cpu), or another version of torch or of the driver, and check again"
        )
    console.print("This machine draws right.", style="green")


def compare_ways(
    requests: Sequence[Request],
    *,
    here: Callable[[], Engine],
    exact_here: Callable[[], Engine] | None,
    on_cpu: Callable[[], Engine] | None,
    names: tuple[str, str],
) -> list[Comparison]:
    """All comparisons that the engines allow; no two of them are in memory at once.

    Args:
        here: makes the engine of the run, and
        exact_here: one in float32 on its device, where the run's has another number format.
        on_cpu: makes one on the CPU in float32, where the run's device is another.
        names: the run's device and number format.
    """
    device, dtype = names
    limit = EXACT if dtype == "float32" else NARROW
    together, alone = _both(here, requests)
    found = [compare(f"{device}, {dtype}: one batch, one by one", together, alone, limit)]
    exact = alone
    if exact_here is not None:
        together, exact = _both(exact_here, requests)
        found += [
            compare(f"{device}, float32: one batch, one by one", together, exact, EXACT),
            compare(f"{device}: {dtype}, float32", alone, exact, NARROW),
        ]
    if on_cpu is not None:
        some = requests[:ON_CPU]
        reference = draw(on_cpu(), some)
        found.append(
            compare(f"float32: {device}, CPU", exact[: len(some)], reference, OTHER_DEVICE)
        )
    return found


def _both(make: Callable[[], Engine], requests: Sequence[Request]) -> tuple[Images, Images]:
    """The images of one batch, and one by one; the engine is let go of."""
    engine = make()
    together, alone = draw(engine, requests), draw_one_by_one(engine, requests)
    del engine
    gc.collect()  # hooks hold on to it
    return together, alone


def table_of(comparisons: Sequence[Comparison], console: Console, title: str) -> None:
    """Print the comparisons."""
    rows = [
        (
            Cell(one.what),
            Cell(f"{one.mean:.3f}"),
            Cell(f"{one.largest:.0f}"),
            Cell(f"{one.limit.mean:g}, {one.limit.largest:g}"),
            Cell("right" if one.right else "WRONG", not one.right),
        )
        for one in comparisons
    ]
    headers = ("the same images by", "mean apart", "largest", "limits", "")
    Table(title, headers, tuple(rows), ("In grey levels, of 255.",)).print(console)


def machine(device: object) -> str:
    """Device, its name and backend, and the version of torch."""
    import torch

    parts = [str(device)]
    if str(device).startswith("cuda"):
        parts.append(torch.cuda.get_device_name(device))  # type: ignore[arg-type]
        hip = getattr(torch.version, "hip", None)
        parts.append(f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}")
    return ", ".join([*parts, f"torch {torch.__version__}"])


def _engine(
    settings: ModelsConfig, weights: Mapping[str, Weights], device: str, dtype: str, steps: int
) -> Engine:
    import torch

    settings = deepcopy(settings)
    settings.generator.dtype, settings.generator.batch_size = dtype, IMAGES
    return Models(settings, weights, device=torch.device(device), steps=steps).generator
