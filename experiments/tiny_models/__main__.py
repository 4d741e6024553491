"""Make the bundled images and models, in order: `python -m experiments.tiny_models`.

Every stage goes on from its last checkpoint in the work folder, and one that is done is not done
again. What is finished is put into the output folder at once, never half of it. A stage can be
chosen by name (`python -m experiments.tiny_models clip blip`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

import sgid
from experiments.tiny_models import (
    blip,
    captions,
    clip,
    diffusion,
    evaluation,
    images,
    judge,
    picture,
    vae,
    vit,
)

REPOSITORY = Path(__file__).parents[2]


class Recipe:
    """The stages, each a method without arguments; what they share is computed once."""

    def __init__(self, source: Path, work: Path, output: Path, steps: int | None) -> None:
        self.source, self.work, self.output = source, work, output
        self.steps = {} if steps is None else {"steps": steps}

    @cached_property
    def parts(self) -> dict[str, images.Part]:
        return images.split(self.source)

    @cached_property
    def attributes(self) -> captions.Attributes:
        return captions.measure(self.parts["pretraining"].images)

    def images(self) -> None:
        images.write_bundle(self.parts, self.output / "fashion")

    def vae(self) -> None:
        model = vae.fit(self.parts["pretraining"], self.work, **self.steps)
        model.save_pretrained(self.work / "vae")
        (self.work / "latents.pt").unlink(missing_ok=True)  # of another VAE, maybe

    def clip(self) -> None:
        self._bundle(clip.fit(self.parts["pretraining"], self.attributes, self.work, **self.steps))

    def blip(self) -> None:
        self._bundle(blip.fit(self.parts["pretraining"], self.attributes, self.work, **self.steps))

    def sd(self) -> None:
        autoencoder = AutoencoderKL.from_pretrained(self.work / "vae")
        self._bundle(
            diffusion.fit(
                self.parts["pretraining"], self.attributes, autoencoder, self.work, **self.steps
            )
        )

    def vit(self) -> None:
        self._bundle(vit.fit(self.parts["pretraining"], self.attributes, self.work, **self.steps))

    def judge(self) -> None:
        judge.fit(self.parts["pretraining"], self.work, **self.steps)

    def evaluate(self) -> None:
        """Measure the bundled models; the figures also go to `figures.json` in the work folder."""
        arbiter = judge.fit(self.parts["pretraining"], self.work, **self.steps)
        figures = evaluation.measure_all(self.output / "models", arbiter, self.parts)
        figures["vit"] = vit.accuracies(self.output / "models" / "vit", self.parts["validation"])
        (self.work / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps(figures, indent=2))

    def picture(self) -> None:
        part = self.parts["validation"]
        rows = np.array([np.flatnonzero(part.labels == c)[3] for c in range(10)])
        chosen = part.select(rows)
        models = self.output / "models"
        texts = [texts[0] for texts in evaluation.write_captions(models / "blip", chosen)]
        target = REPOSITORY / "docs" / "images" / "tiny-models-strength-guidance.png"
        picture.draw(models / "sd", chosen, texts, target)

    def _bundle(self, folder: Path) -> None:
        """Put a finished model into the output folder by renaming a whole copy."""
        target = self.output / "models" / folder.name
        partial = target.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        for file in partial.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)


STAGES = ("images", "vae", "clip", "blip", "sd", "vit", "judge", "evaluate", "picture")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_models", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--images", type=Path, default=images.DEBIAN, help="folder of idx files")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "artifacts" / "tiny_models")
    parser.add_argument("--output", type=Path, default=Path(sgid.__file__).parent / "assets")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--steps", type=int, help="optimizer steps of every model, to try it out")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"{', '.join(sorted(unknown))}: no such stage; the stages: {' '.join(STAGES)}")
    torch.set_num_threads(options.threads)
    recipe = Recipe(options.images, options.work, options.output, options.steps)
    for stage in STAGES:
        if not options.stages or stage in options.stages:
            print(f"== {stage}", flush=True)
            run: Callable[[], None] = getattr(recipe, stage)
            run()


if __name__ == "__main__":
    main()
