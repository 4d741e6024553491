"""Speed of generation, against the loop that a user of diffusers would write.

    python -m experiments.benchmarks.generation

The bundled models, 20 steps, noise rate 0.7, five images of each original:

- `one image per call`: diffusers' own img2img pipeline in a loop, as published augmentation code
  has it, with a guidance scale for each image;
- `diffusers, batches of N`: the same pipeline given lists; it takes one guidance scale for all;
- `sgid`: this project's engine, a guidance scale for each image;
- `sgid, compiled`: with `models.generator.compile=default`, its warm-up apart.

All arms compute the same, so that the number of products in an image and the rate of a large matrix
product, measured in the same rounds, tell how much is left to gain. The images of this project are
compared with those of the first arm. Then the whole stage is run, from the first request to the
manifest of the store: for how much of that time did UNet and VAE have the cores?
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from experiments.benchmarks.busy import Busy
from experiments.benchmarks.common import (
    Target,
    arguments,
    bars,
    finish,
    paired,
    rates,
    ratio,
)  # fmt: skip
from sgid.config.compose import compose
from sgid.records import Request

REPEATS, FIXED = 5, 5.0
ALONE, OURS, COMPILED = "one image per call", "sgid", "sgid, compiled"
PRODUCT = "matrix product"
SAMPLE = 24
"""Images of the slow loop in a round; its rate does not depend on their number."""


def main() -> None:
    given = arguments(__doc__, images=640, device="cpu")
    with TemporaryDirectory() as artifacts:
        augmentation = prepare(given, artifacts)
        requests = augmentation.plan().requests(range(given.images))
        engine = augmentation.models.generator
        pipe = engine.pipe
        others = prepare(given, artifacts, "models.generator.compile=default").models
        warm = time.perf_counter()
        list(others.generator.generate(requests[: 4 * engine.batches.size]))
        warm = time.perf_counter() - warm

        sizes = [size for size in (32, 64, 128, 256) if size <= given.images]
        arms = {ALONE: rate(SAMPLE, lambda: [alone(pipe, one) for one in requests[:SAMPLE]])}
        for size in sizes:
            arms[_batches(size)] = rate(
                given.images, lambda size=size: batched(pipe, requests, size)
            )
        arms[OURS] = rate(given.images, lambda: draw(engine, requests))
        arms[COMPILED] = rate(given.images, lambda: draw(others.generator, requests))
        arms[PRODUCT] = product
        worst = max(
            compare(pipe, draw(one, requests), SAMPLE) for one in (engine, others.generator)
        )
        values = paired(arms, given.rounds)
        peak = statistics.median(values.pop(PRODUCT))
        each = products(engine, requests[: engine.batches.size]) / 1e9

        threads = torch.get_num_threads()
        busy = Busy(threads if given.device == "cpu" else 1)
        parts = [(pipe.unet, "forward"), (pipe.vae, "encode"), (pipe.vae, "decode")]
        engine.known.forget()
        with busy.watching(*parts):
            started = time.perf_counter()
            augmentation.make()
            wall = time.perf_counter() - started

    best = max(map(_batches, sizes), key=lambda name: statistics.median(values[name]))
    most = peak / each / statistics.median(values[ALONE])
    targets = [
        Target(f"images/s against {ALONE}", ratio(values, OURS, ALONE), 12),
        Target("the same, compiled", ratio(values, COMPILED, ALONE), 12),
        Target(f"images/s against {best}, its best", ratio(values, OURS, best), 1.3),
        Target("the same, compiled", ratio(values, COMPILED, best), 1.3),
        Target("share of the stage spent in UNet and VAE", busy.seconds / wall, 0.9, unit="%"),
        Target("largest difference to one image per call", worst, 1, False, "grey levels"),
    ]
    finish(
        "generation",
        given.out,
        title="Generation: images per second, bundled models, 20 steps, noise rate 0.7",
        body=f"{rates(values, ALONE, 'images/s')}\n\n"
        f"An image is {each:.1f} GFLOP of matrix products and convolutions. A large float32 matrix "
        f"product reaches {peak:.0f} GFLOP/s here: at that rate it would be {peak / each:.0f} "
        f"images/s, {most:.1f} times one image per call. Compiling took {warm:.0f} s.\n\n"
        f"The stage: {augmentation.generated.rows} images in {wall:.1f} s, {busy.seconds:.1f} s of "
        "it in UNet and VAE.",
        targets=targets,
        figure=bars(values, "images per second"),
        data={
            "images_per_second": values,
            "gflop_per_image": each,
            "matrix_product_gflops": peak,
            "compile_seconds": warm,
            "stage": {"wall": wall, "busy": busy.seconds},
        },
    )


def draw(engine: Any, requests: Sequence[Request]) -> list[Any]:
    """The engine's images, of prompts and originals that it has not seen."""
    engine.known.forget()
    return list(engine.generate(requests))


def product() -> float:
    """GFLOP/s of a large float32 matrix product."""
    side = 2048
    one, two = torch.randn(2, side, side)
    started = time.perf_counter()
    for _ in range(5):
        one @ two
    return 5 * 2 * side**3 / (time.perf_counter() - started) / 1e9


def products(engine: Any, requests: Sequence[Request]) -> float:
    """FLOP of an image: matrix products, convolutions and attention, of all parts."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        draw(engine, requests)
    return counter.get_total_flops() / len(requests)


def prepare(given: Any, artifacts: str, *options: str) -> Any:
    """An augmentation, its images captioned; none is generated yet."""
    from sgid.stages import run

    config = compose(
        [
            "aug=sgid", "steps=20", "noise_rate=0.7", f"expansion={REPEATS}",
            f"dataset.shots={-(-given.images // REPEATS // 10)}",
            f"trainer.device={given.device}", f"paths.artifacts={artifacts}", *options,
        ]
    )  # fmt: skip
    (augmentation,) = run.prepare(config, {}, []).augmentations
    augmentation.plan()
    return augmentation


def rate(images: int, draw: Callable[[], object]) -> Callable[[], float]:
    """Images per second of `draw`, which makes that many."""

    def timed() -> float:
        started = time.perf_counter()
        draw()
        return images / (time.perf_counter() - started)

    return timed


def alone(pipe: Any, request: Request) -> Image:
    """The image that diffusers generates for one request."""
    return batched(pipe, [request], 1, guidance_scale=request.guidance_scale)[0]


def batched(
    pipe: Any, requests: Sequence[Request], size: int, guidance_scale: float = FIXED
) -> list[Image]:
    """The images that diffusers generates for requests of one guidance scale."""
    images = []
    for start in range(0, len(requests), size):
        some = requests[start : start + size]
        images += pipe(
            prompt=[request.prompt for request in some],
            image=[request.init_image for request in some],
            strength=some[0].strength,
            guidance_scale=guidance_scale,
            num_inference_steps=20,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in some],
        ).images
    return images


def compare(pipe: Any, generated: Sequence[Any], count: int) -> float:
    """The largest difference in grey levels between the first images and what diffusers gives."""
    differences = [
        np.abs(np.asarray(one.image, int) - np.asarray(alone(pipe, one.request), int)).max()
        for one in generated[:count]
    ]
    return float(max(differences))


def _batches(size: int) -> str:
    return f"diffusers, batches of {size}"


if __name__ == "__main__":
    main()
