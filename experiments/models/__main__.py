"""Make the bundled images and models of a world, in order.

Every stage goes on from its last checkpoint in the work folder, and one that is done is not done
again. What is finished is put into the output folder at once, never half of it. A stage can be
chosen by name (`python -m experiments.models --world clothing clip blip`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

import sgid
from experiments.models import (
    blip,
    captions,
    clip,
    clothing,
    diffusion,
    evaluation,
    judge,
    photographs,
    picture,
    vae,
    vit,
    world,
)

REPOSITORY = Path(__file__).parents[2]
WORLDS = {each.name: each for each in (clothing.CLOTHING, photographs.PHOTOGRAPHS)}


class Recipe:
    """The stages, each a method without arguments; what they share is computed once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.world = WORLDS[options.world]
        self.sizes = self.world.sizes[options.scale]
        self.work = options.work
        self.models = options.output / self.world.output
        self.device = torch.device(options.device)

    @cached_property
    def parts(self) -> dict[str, world.Part]:
        return world.parts(self.world, self.options.images, self.work)

    @cached_property
    def captioned(self) -> tuple[Any, ...]:
        """Training data of the models that read captions."""
        part = self.parts["pretraining"]
        words = captions.vocabulary(self.world, self.options.images)
        return self.world, self.sizes, part, self.world.measure(part.images), words

    @property
    def limits(self) -> dict[str, Any]:
        """Device and length of the trainings."""
        minutes = self.options.minutes
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        return {
            "device": self.device,
            "dtype": getattr(torch, self.options.dtype),
            "steps": self.options.steps,
            "deadline": deadline,
        }

    def images(self) -> None:
        self.world.write(self.options.images, self.parts, self.options.output)

    def vae(self) -> None:
        model = vae.fit(self.parts["pretraining"], self.sizes, self.work, **self.limits)
        model.save_pretrained(self.work / "vae")

    def clip(self) -> None:
        self._bundle(clip.fit(*self.captioned, self.work, **self.limits))

    def blip(self) -> None:
        self._bundle(blip.fit(*self.captioned, self.work, **self.limits))

    def sd(self) -> None:
        autoencoder = AutoencoderKL.from_pretrained(self.work / "vae")
        self._bundle(diffusion.fit(*self.captioned, autoencoder, self.work, **self.limits))

    def vit(self) -> None:
        self._bundle(vit.fit(*self.captioned[:4], self.work, **self.limits))

    def judge(self) -> None:
        self._judge()

    def evaluate(self) -> None:
        """Measure the finished models; the figures also go to `figures.json` in the work folder."""
        figures = evaluation.measure_all(
            self.world, self.models, self._judge(), self.parts, count=self.options.count
        )
        figures["vit"] = vit.accuracies(self.world, self.models / "vit", self.parts["validation"])
        (self.work / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps(figures, indent=2))

    def picture(self) -> None:
        part = self.parts["validation"]
        chosen = part.select(picture.fourths(part, self.world.evaluated))
        texts = [texts[0] for texts in evaluation.write_captions(self.models / "blip", chosen)]
        picture.draw(self.world, self.models / "sd", chosen, texts, self.options.picture)

    def _judge(self) -> torch.nn.Module:
        part = self.parts.get("judge", self.parts["pretraining"])
        return judge.fit(self.world, self.sizes, part, self.work, **self.limits)

    def _bundle(self, folder: Path) -> None:
        """Put a finished model into the output folder by renaming a whole copy."""
        target = self.models / folder.name
        partial = target.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        for file in partial.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)


STAGES = ("images", "vae", "clip", "blip", "sd", "vit", "judge", "evaluate", "picture")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.models", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--world", choices=WORLDS, default="clothing")
    parser.add_argument("--images", type=Path, help="folder of the world's images")
    parser.add_argument("--scale", default="small", help="sizes: small; of photographs also wide")
    parser.add_argument("--work", type=Path, help="folder of checkpoints")
    parser.add_argument("--output", type=Path, default=Path(sgid.__file__).parent / "assets")
    parser.add_argument("--picture", type=Path, help="file of the picture of strengths")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--steps", type=int, help="of every optimizer, to try it out")
    parser.add_argument("--minutes", type=float, help="of training a stage in this run")
    parser.add_argument("--count", type=int, default=500, help="images to measure generation on")
    options = parser.parse_args(arguments)
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"{', '.join(sorted(unknown))}: no such stage; the stages: {' '.join(STAGES)}")
    chosen = WORLDS[options.world]
    if options.scale not in chosen.sizes:
        parser.error(f"--scale {options.scale}: must be one of {', '.join(chosen.sizes)}")
    options.images = options.images or chosen.images
    if options.images is None:
        parser.error(f"--world {chosen.name} needs --images, the folder of its sets")
    on_cpu = options.device == "cpu"
    options.dtype = options.dtype or ("float32" if on_cpu else "bfloat16")
    folder = f"{chosen.name}-{options.scale}".removesuffix("-small")
    options.work = options.work or REPOSITORY / "artifacts" / "models" / folder
    options.picture = options.picture or REPOSITORY / "docs" / "images" / chosen.picture
    torch.set_num_threads(options.threads)
    recipe = Recipe(options)
    for stage in STAGES:
        if not options.stages or stage in options.stages:
            print(f"== {stage}", flush=True)
            run: Callable[[], None] = getattr(recipe, stage)
            run()


if __name__ == "__main__":
    main()
