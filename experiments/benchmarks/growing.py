"""The processes that `growth` watches, and what they work on.

    python -m experiments.benchmarks.growing make stage=augment dataset=folder ...

`make` runs the stage, `read` reads what it made; both print what they saw as one line of JSON.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHARD = 256
CLASSES = ("ankle boot", "bag", "coat", "dress", "shirt")
READS = 20_000


def make(config: Any) -> dict[str, float]:
    """List the images and run the stage.

    Told are when that began, as if loading the models had taken no time, when the first and the
    last image were drawn, and when it ended.
    """

    began = time.time()
    dataset, models, augmentation = _ready(config)
    (Path(config.paths.artifacts) / "rows.txt").write_text(str(augmentation.generated.rows))
    loading = time.time()
    engine = models.generator  # loading it takes as long for any number of requests
    if augmentation.described:
        _ = models.captioner, models.scorer
    began += time.time() - loading
    told = {"process": float(os.environ["SGID_STARTED"]), "stage": began}
    draw = engine.generate

    def generate(requests: Sequence[Any], hook: Any = None) -> Iterator[Any]:
        for one in draw(requests, hook):
            told.setdefault("first", time.time())
            yield one
            told["last"] = time.time()

    engine.generate = generate
    augmentation.make()
    return {**told, "end": time.time()}


def read(config: Any) -> dict[str, float]:
    """Open the store as a set to train on and decode random images of it."""
    from sgid.store.tables import stored_images

    dataset, _, augmentation = _ready(config)
    started = time.perf_counter()
    images = stored_images(augmentation.generated, dataset.class_names)
    _ = images[0]
    opened = time.perf_counter()
    for row in np.random.default_rng(0).integers(len(images), size=READS).tolist():
        _ = images[row]
    return {"set": opened - started, "image": 1e6 * (time.perf_counter() - opened) / READS}


def _ready(config: Any) -> tuple[Any, Any, Any]:
    from sgid.stages.run import prepare

    run = prepare(config, {}, [])
    (augmentation,) = run.augmentations
    return run.dataset, run.models, augmentation


def write_originals(root: Path, count: int, *, side: int) -> Path:
    """`count` PNGs and a few more, which validation and test take, in class folders."""
    if root.is_dir():
        return root
    unfinished = root.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    total = -(-count * 100 // 98) + 10 * len(CLASSES)
    rng = np.random.default_rng(0)
    for i in range(total):
        folder = unfinished / CLASSES[i % len(CLASSES)] / f"{i // 10_000:03}"
        folder.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(data, "PNG")
        (folder / f"{i:07}.png").write_bytes(data.getvalue())
    unfinished.rename(root)
    return root


def write_pipeline(folder: Path, *, side: int) -> Path:
    """A Stable Diffusion with a UNet of one layer and a VAE of one block, of random weights."""
    from importlib.resources import files

    import diffusers
    import torch

    if folder.is_dir():
        return folder
    bundled = Path(str(files("sgid") / "assets" / "models" / "sd"))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(bundled, safety_checker=None)
    torch.manual_seed(0)
    pipe.unet = diffusers.UNet2DConditionModel(
        sample_size=side // 2, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(8,), norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        mid_block_type=None, cross_attention_dim=pipe.text_encoder.config.hidden_size,
    )  # fmt: skip
    pipe.vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=side,
        layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def main() -> None:
    from sgid.config.compose import compose

    what, *options = sys.argv[1:]
    told = {"make": make, "read": read}[what](compose(options))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
