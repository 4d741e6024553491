"""The images that each augmentation makes of the same originals. (The paper's Figure 4.)

    python -m experiments.case_study                                   most of them, bundled images
    python -m experiments.case_study dataset=cars 'aug=[cutmix,sgid]'  any dataset, any of them

One row per augmentation, eight originals across. Options are those of run.py; the generated images
are the very ones that a run with the same options trains on. Guidance is calibrated on the whole
training set, so all of it is captioned: dataset.shots=20 makes that short. Methods that learn
concepts first take minutes or hours, and are drawn where `aug` names them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image
from rich.console import Console

from sgid.config.compose import CONF, compose
from sgid.config.schema import Config
from sgid.data.image_set import ImageSet
from sgid.errors import message
from sgid.reporting.figure_files import encode
from sgid.runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the picture; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="PNG file; default: below paths.artifacts")
    parser.add_argument("options", nargs="*", help="as for run.py")
    given = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        config = compose(chosen(given.options))
        fonts = Path(config.paths.artifacts).absolute() / "fonts"
        os.environ.setdefault("MPLCONFIGDIR", str(fonts))  # else they go to the home folder
        path = (
            given.output or Path(config.paths.artifacts) / f"case_study/{config.dataset.name}.png"
        )
        write_atomic(path, encode(figure(config), "png"))
    except Exception as error:
        if (text := message(error)) is None:
            raise
        print(text, file=sys.stderr)
        return 1
    Console().print(f"picture: {path}", highlight=False, markup=False)
    return 0


def chosen(options: Sequence[str]) -> list[str]:
    """The options, with all augmentations where none is named."""
    if any(option.startswith("aug=") for option in options):
        return list(options)
    return [*options, f"aug=[{','.join(every_augmentation())}]"]


def every_augmentation() -> list[str]:
    """The names in conf/aug/ but of methods that learn concepts or need further models;
    perturbations first.
    """
    import yaml

    files = sorted((CONF / "aug").glob("*.yaml"))
    entries = {file.stem: yaml.safe_load(file.read_text())[file.stem] for file in files}
    further = {"image_prompt", "edges", "image_guidance"}
    left_out = [
        name
        for name, entry in entries.items()
        if "sgid.methods.concepts" in str(entry) or further & entry.keys()
    ]
    order = ("base", "online", "batch", "offline")
    names = [name for name in entries if name not in left_out]
    return sorted(names, key=lambda name: order.index(entries[name]["slot"]))


def figure(config: Config) -> Figure:
    """The picture of `config`'s augmentations on its dataset."""
    from hydra.utils import instantiate

    from sgid.config.schema import in_slot
    from sgid.evaluation.store_summary import spread
    from sgid.models.loader import Loaded
    from sgid.reporting.image_grids import augmentation_grid
    from sgid.stages.preflight import warn
    from sgid.stages.run import prepare
    from sgid.training.backbones import image_size

    offline = in_slot(config.aug, "offline")
    # Each is drawn alone, so that what cannot be combined, as none and flip_crop, can be shown.
    loaded = Loaded()
    named = offline or config.aug
    run = prepare(
        replace(config, aug={name: config.aug[name] for name in named}), {}, [], loaded=loaded
    )
    dataset, weights = run.dataset, run.ready.weights.get("backbone")
    warn(config, Console())
    shown = spread(dataset.train, ACROSS)
    network = instantiate(config.backbone.model)
    folder = weights and weights.folder
    size = config.backbone.image_size or image_size(network, folder, dataset.train)
    originals = [dataset.train[i] for i in shown]
    rows = {
        name: generated(replace(config, aug={name: entry}), loaded, shown)
        if name in offline
        else perturbed(replace(config, aug={name: entry}), dataset.train.select(shown), size)
        for name, entry in config.aug.items()
    }
    return augmentation_grid(
        [one.image for one in originals], rows, [one.class_name for one in originals]
    )


def generated(config: Config, loaded: Any, chosen: Sequence[int]) -> list[Image]:
    """The first image that the config's generative method makes of each."""
    from sgid.stages.augment import drawn
    from sgid.stages.run import prepare

    run = prepare(config, {}, [], loaded=loaded)
    (augmentation,) = run.augmentations
    plan = augmentation.plan()
    requests = plan.requests([plan.rows(i).start for i in chosen])
    made = {one.request.described.key: one.image for one in drawn(requests, plan, run.models)}
    return [made[request.described.key] for request in requests]


def perturbed(config: Config, images: ImageSet, size: int) -> list[Image]:
    """Training images of each original with the config's perturbation, per image or per batch."""
    import numpy as np
    import torch
    from torchvision.transforms.v2 import functional

    from sgid.stages.run import transforms
    from sgid.training.transforms import batch_transform, flip_crop, training_transform

    torch.manual_seed(config.seed)
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    base, online, batch = (transforms(config.aug, slot) for slot in ("base", "online", "batch"))
    view = training_transform(size, online, base=base[0] if base else flip_crop)
    pixels = torch.stack([view(sample.image) for sample in images])  # uint8 (8, 3, H, W)
    if mix := batch_transform(batch, len(images.class_names)):
        mixed, _ = mix(pixels.float() / 255, torch.tensor(images.labels))
        pixels = (mixed * 255).round().to(torch.uint8)
    return [functional.to_pil_image(one) for one in pixels]


if __name__ == "__main__":
    sys.exit(main())
