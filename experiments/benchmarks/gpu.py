"""Generation with Stable Diffusion 1.5 against the peak of a GPU.

    python -m experiments.benchmarks.gpu
    python -m experiments.benchmarks.gpu --shapes tiny --images 10 --compile none    on a CPU

Its shapes with random weights, in float16, written to a temporary folder: nothing is downloaded,
and time does not depend on the weights. 512 px, 25 steps at noise rate 0.5, guidance above 1 and
another for each image, five images of each original.

- `one image per call`: diffusers' own img2img pipeline in a loop;
- `batches of N`, and `auto`: this project's engine; `compiled`: with `torch.compile`, whose warm-up
  is reported apart. The first turn of each arm is not counted.

Then: how much arithmetic does the engine's UNet do in a second of denoising, against a large matrix
product in bfloat16 in the same run? And the UNet alone, with nothing around it, in both memory
formats. `--shapes tiny` runs the same code on small networks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from experiments.benchmarks.clock import Clock
from experiments.benchmarks.common import (
    Target,
    arguments,
    bars,
    finish,
    paired,
    rates,
    ratio,
    table,
)  # fmt: skip
from experiments.benchmarks.shapes import SHAPES, Shape, requests, unet_flops, write

STRENGTH, STEPS = 0.5, 25
SCHEDULER = "DPMSolverMultistepScheduler"
ALONE, AUTO, COMPILED = "one image per call", "batches of auto", "batches of {}, compiled"
GIB = 2**30


def main() -> None:
    given = arguments(
        __doc__, shapes="sd15", images=160, alone=10, sizes="4,8,16,32", compile="default",
        compiled_size=16,
    )  # fmt: skip
    if given.shapes not in SHAPES:
        raise SystemExit(f"--shapes {given.shapes}: must be one of {', '.join(SHAPES)}")
    with TemporaryDirectory() as folder:
        bench = Bench(SHAPES[given.shapes], Path(folder), given.images)
        arms = bench.arms(given)
        first = {name: bench.first(arm) for name, arm in arms.items()}
        values = paired(arms, given.rounds)
        ours = [name for name in arms if name != ALONE]
        best = max(ours, key=lambda name: statistics.median(values[name]))
        denoising = bench.denoising(arms[best])
        alone = bench.unet_alone(given.compiled_size)
        product = bench.product()

    rows = [
        (name, f"{seconds:.1f}", f"{memory / GIB:.1f}" if memory else "not measured")
        for name, (seconds, memory) in first.items()
    ]
    speeds = {f"the engine's denoising, {best}": denoising, **alone}
    shares = [(name, f"{one / 1e12:.4g}", f"{one / product:.1%}") for name, one in speeds.items()]
    shares.append(
        (f"matrix product, {bench.shape.product}³, bfloat16", f"{product / 1e12:.4g}", "")
    )
    finish(
        "gpu" if given.shapes == "sd15" else f"gpu-{given.shapes}",
        given.out,
        title=f"Generation, shapes of {given.shapes}, {bench.shape.side} px, {bench.device.type}",
        body="\n\n".join(
            (
                rates(values, ALONE, "images/s"),
                table(
                    (
                        "arm",
                        "first turn, warm-up included (s)",
                        "peak memory, all weights included (GiB)",
                    ),
                    rows,
                ),
                table(("arithmetic of the UNet", "TFLOP/s", "of the product"), shares),
            )
        ),
        targets=[
            Target(f"images/s against {ALONE}, {best}", ratio(values, best, ALONE), 6),
            Target("UNet's arithmetic of the product's", denoising / product, 0.5, unit="%"),
        ],
        figure=bars(values, "images per second"),
        data={
            "images_per_second": values,
            "first": first,
            "flops_per_second": {**speeds, "product": product},
        },
    )


@dataclass
class Denoising:
    """Rows of latents that went through the UNet, and the seconds that denoising them took."""

    rows: int = 0
    spans: list[Any] = field(default_factory=list)


class Bench:
    """Random weights on the machine's GPU, or its CPU without one, and requests to draw."""

    def __init__(self, shape: Shape, folder: Path, images: int) -> None:
        self.shape = shape
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.clock = Clock(self.device)
        self.folder = write(folder, shape, device=self.device, dtype=self.dtype)
        self.flops = unet_flops(shape)
        self.requests = requests(images, shape.side, strength=STRENGTH)

    def arms(self, given: Any) -> dict[str, Callable[[], float]]:
        """Name -> images per second of one turn."""
        plain, auto = self._engine(1), self._engine("auto")
        sizes = [size for size in map(int, given.sizes.split(",")) if size <= given.images]
        arms = {ALONE: self._one_by_one(given.alone)}
        arms |= {f"batches of {size}": self._batched(plain, size) for size in sizes}
        arms[AUTO] = self._batched(auto)
        if given.compile != "none":
            compiled = self._engine(given.compiled_size, compile=given.compile)
            arms[COMPILED.format(given.compiled_size)] = self._batched(compiled)
        return arms

    def first(self, arm: Callable[[], float]) -> tuple[float, int]:
        """Seconds of an arm's first turn, and the most bytes of GPU memory that it held.

        The weights of all engines are there the whole time, and count.
        """
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        arm()
        seconds = time.perf_counter() - started
        return seconds, torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def denoising(self, arm: Callable[[], float]) -> float:
        """FLOP/s of the UNet between the first and the last step of each batch of an arm."""
        from sgid.generation.denoising import Denoiser

        seen = Denoising()
        original = Denoiser.__call__

        def timed(denoiser: Any, latents: Any, timesteps: Any, *rest: Any, **more: Any) -> Any:
            with self.clock.span(seen.spans):
                given = original(denoiser, latents, timesteps, *rest, **more)
            seen.rows += 2 * len(latents) * len(timesteps)  # with the unconditional half
            return given

        Denoiser.__call__ = timed
        try:
            arm()
        finally:
            Denoiser.__call__ = original
        return seen.rows * self.flops / self.clock.seconds(seen.spans)

    def unet_alone(self, rows: int) -> dict[str, float]:
        """FLOP/s of bare forward passes for `rows` images and as many without their prompts."""
        from diffusers import UNet2DConditionModel

        side, text = self.shape.unet["sample_size"], self.shape.text
        unet: Any = UNet2DConditionModel.from_pretrained(self.folder / "unet", dtype=self.dtype)
        unet = unet.to(self.device).eval()
        made: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        latents = torch.randn(2 * rows, 4, side, side, **made)
        tokens = torch.randn(2 * rows, text["max_position_embeddings"], text["hidden_size"], **made)
        t = torch.tensor(500, device=self.device)
        speeds = {}
        for name in ("contiguous_format", "channels_last"):
            memory = getattr(torch, name)
            unet, latents = unet.to(memory_format=memory), latents.to(memory_format=memory)
            with torch.inference_mode():
                seconds = self.clock.median(partial(unet, latents, t, encoder_hidden_states=tokens))
            speeds[f"the UNet alone, {2 * rows} rows, {name}"] = 2 * rows * self.flops / seconds
        return speeds

    def product(self) -> float:
        """FLOP/s of the product of two large square matrices in bfloat16."""
        side = self.shape.product
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in "ab")
        return 2 * side**3 / self.clock.median(lambda: a @ b, times=20)

    def _engine(self, batch_size: int | str, **options: Any) -> Any:
        from sgid.generation.stable_diffusion import StableDiffusionEngine

        return StableDiffusionEngine(
            self.folder, steps=STEPS, scheduler=SCHEDULER, resolution=self.shape.side,
            batch_size=batch_size, device=self.device, dtype=self.dtype, **options,
        )  # fmt: skip

    def _batched(self, engine: Any, size: int | None = None) -> Callable[[], float]:
        """Our engine, in batches of `size` or as it has them."""
        from sgid.runtime.batching import AdaptiveBatcher

        def turn() -> float:
            engine.known.forget()  # prompts and originals are encoded again
            if size is not None:
                engine.batches = AdaptiveBatcher(size)
            started = time.perf_counter()
            made = len(list(engine.generate(self.requests)))
            seconds = time.perf_counter() - started
            if size is not None and engine.batches.size != size:
                raise SystemExit(f"no memory for batches of {size}: leave it out of --sizes")
            return made / seconds

        return turn

    def _one_by_one(self, count: int) -> Callable[[], float]:
        """The loop of published augmentation code, over some of the requests."""
        import diffusers

        pipe: Any = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(
            self.folder, dtype=self.dtype, safety_checker=None
        ).to(self.device)
        pipe.scheduler = getattr(diffusers, SCHEDULER).from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)

        def turn() -> float:
            started = time.perf_counter()
            for one in self.requests[:count]:
                pipe(
                    prompt=one.prompt, image=one.init_image, strength=one.strength,
                    guidance_scale=one.guidance_scale, num_inference_steps=STEPS,
                    generator=torch.Generator("cpu").manual_seed(one.seed),
                )  # fmt: skip
            return min(count, len(self.requests)) / (time.perf_counter() - started)

        return turn


if __name__ == "__main__":
    main()
