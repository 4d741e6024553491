"""Evaluation of the finished models on images that none of them was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from torch import nn

from experiments.models.clip import zero_shot
from experiments.models.judge import accuracy, verdicts
from experiments.models.vae import psnr
from experiments.models.world import Part, World, pictures
from sgid.models.blip import BlipCaptioner
from sgid.models.clip import OpenClipScorer

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
PROMPT = "a photo of a {label}, {caption}"
STRENGTHS = (0.3, 0.5, 0.7, 0.9)
GUIDANCE_SCALES = (1.0, 3.0, 5.0, 7.5)
STEPS = 16


def measure_all(
    world: World, models: Path, judge: nn.Module, parts: dict[str, Part], *, count: int
) -> dict[str, Any]:
    """Every figure of the bundled models, on validation images (the judge: on test images).

    Images are generated from `count` of them.
    """
    part = parts["validation"]
    some = part.select(np.arange(0, len(part.images), max(1, len(part.images) // count)))
    candidates = write_captions(models / "blip", part)
    greedy = [texts[0] for texts in candidates]
    sampled = [texts[-1] for texts in candidates]
    some_greedy = greedy[:: max(1, len(part.images) // count)]
    nothing = [""] * len(some.images)
    sd = models / "sd"
    return {
        "vae psnr": psnr(AutoencoderKL.from_pretrained(sd / "vae"), part),
        "vae same class": same_class(sd, judge, some),
        "clip zero-shot": zero_shot(world, models / "clip", part),
        "similarity": similarity_spread(world, models / "clip", part, candidates),
        "blip greedy": caption_shares(world, greedy, part),
        "blip nucleus": caption_shares(world, sampled, part),
        "judge on test": accuracy(judge, parts["test"]),
        "judge on these": accuracy(judge, some),
        "label consistency": list(label_consistency(world, sd, judge, some, some_greedy)),
        "label consistency, label alone": list(
            label_consistency(world, sd, judge, some, nothing, strengths=(0.5, 0.7))
        ),
        "text-to-image": list(text_consistency(world, sd, judge, some)),
    }


def write_captions(folder: Path, part: Part, *, candidates: int = 5) -> list[tuple[str, ...]]:
    """Distinct candidate captions of each image, the greedy one first."""
    captioner = BlipCaptioner(
        folder, candidates=candidates, top_p=0.9, max_tokens=24, seed=0, batch_size=64, **CPU
    )
    return list(captioner(pictures(part.images), part.keys))


def caption_shares(world: World, texts: list[str], part: Part) -> dict[str, float]:
    """Share of captions whose noun fits the label, and that name the measured attributes.

    `when said` is the share among the captions that name the attribute at all.
    """
    measured = world.measure(part.images)
    # BERT's decoder writes "t - shirt"; a noun counts where no other class's is said as well.
    texts = [f" {text.replace(' - ', '-')} " for text in texts]
    shares: dict[str, Any] = {}
    for name, words in world.words.items():
        said = [world.said(name, text) for text in texts]
        right = np.array([words[i] in own for own, i in zip(said, measured[name], strict=True)])
        shares[name] = right.mean()
        naming = np.array([bool(own) for own in said])
        if "" not in words and naming.any():
            shares[f"{name} when said"] = right[naming].mean()
    pairs = list(zip(texts, part.labels, strict=True))
    exact = [f" {world.class_names[label]} " in text for text, label in pairs]
    coarse = [f" {world.kinds[label]} " in text for text, label in pairs]
    shares["exact noun"] = np.mean(exact)
    shares["exact or coarse noun"] = np.mean([a or b for a, b in zip(exact, coarse, strict=True)])
    return {name: float(value) for name, value in shares.items()}


def similarity_spread(
    world: World, folder: Path, part: Part, candidates: list[tuple[str, ...]]
) -> dict[str, float]:
    """Cosines of image and best caption, and of the same captions with another class's noun."""
    scorer = OpenClipScorer(folder, batch_size=256, **CPU)
    images = scorer.embed_images(pictures(part.images))
    names, classes = world.class_names, world.evaluated

    def cosines(rows: list[int], texts: list[str]) -> NDArray[np.float32]:
        return (images[rows] * scorer.embed_texts(texts)).sum(1)

    rows = [row for row, texts in enumerate(candidates) for _ in texts]
    every = cosines(rows, [text for texts in candidates for text in texts])
    scores = np.split(every, np.cumsum([len(texts) for texts in candidates])[:-1])
    p5, p50, p95 = np.quantile([own.max() for own in scores], [0.05, 0.5, 0.95])
    figures = {
        "best p5": p5,
        "best p50": p50,
        "best p95": p95,
        "deviation within an image": np.mean([own.std() for own in scores]),
    }

    texts = [own[0].replace(" - ", "-") for own in candidates]
    named = [row for row, label in enumerate(part.labels) if f" {names[label]}" in texts[row]]
    if named:
        # Five on is another kind: a sneaker for a pullover, a dog for an airplane.
        swapped = [
            texts[row].replace(names[label], names[(label + 5) % classes])
            for row, label in zip(named, part.labels[named], strict=True)
        ]
        right, wrong = cosines(named, [texts[row] for row in named]), cosines(named, swapped)
        figures["greedy, right noun p50"] = np.median(right)
        figures["greedy, wrong noun p50"] = np.median(wrong)
        figures["right above wrong"] = (right > wrong).mean()
    return {name: float(value) for name, value in figures.items()}


def same_class(folder: Path, judge: nn.Module, part: Part) -> float:
    """Share of the images that the judge is right about and still is after the VAE."""
    known = part.select(np.flatnonzero(verdicts(judge, part.images) == part.labels))
    if not len(known.images):
        return float("nan")
    return float((verdicts(judge, reconstruct(load(folder), known)) == known.labels).mean())


@torch.no_grad()
def reconstruct(pipeline: StableDiffusionImg2ImgPipeline, part: Part) -> NDArray[np.uint8]:
    """Images of the part's own kind, through the VAE and back."""
    made = []
    for start in range(0, len(part.images), 100):
        images = pictures(part.images[start : start + 100])
        latents = pipeline.vae.encode(pipeline.image_processor.preprocess(images)).latent_dist.mean
        decoded = pipeline.vae.decode(latents).sample  # (N, 3, 32, 32) in [-1, 1]
        made.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    colour = np.concatenate(made)
    return colour if part.images.ndim == 4 else colour.mean(3).round().astype(np.uint8)


def label_consistency(
    world: World,
    folder: Path,
    judge: nn.Module,
    part: Part,
    texts: list[str],
    *,
    strengths: tuple[float, ...] = STRENGTHS,
    guidance_scales: tuple[float, ...] = GUIDANCE_SCALES,
) -> Iterator[dict[str, float]]:
    """Share of generated images that the judge gives the source's label, and the mean change.

    The prompt is label and caption, as in SGID; an empty caption makes it the label alone. The
    change is the mean absolute difference of pixels from the source, in grey levels of 255.
    """
    pipeline = load(folder)
    for strength in strengths:
        for scale in guidance_scales:
            made = generate(world, pipeline, part, texts, strength, scale, STEPS)
            change = np.abs(made.astype(np.float32) - part.images).mean()
            yield {
                "strength": strength,
                "guidance": scale,
                "consistent": float((verdicts(judge, made) == part.labels).mean()),
                "change": float(change),
            }


def text_consistency(
    world: World,
    folder: Path,
    judge: nn.Module,
    part: Part,
    *,
    guidance_scales: tuple[float, ...] = GUIDANCE_SCALES,
) -> Iterator[dict[str, float]]:
    """Share of images made from `a photo of a <class>` alone that the judge gives that class."""
    pipeline = load(folder)
    nothing = [""] * len(part.images)
    for scale in guidance_scales:
        made = generate(world, pipeline, part, nothing, None, scale, STEPS)
        consistent = float((verdicts(judge, made) == part.labels).mean())
        yield {"guidance": scale, "consistent": consistent}


def load(folder: Path) -> StableDiffusionImg2ImgPipeline:
    """The pipeline with the solver that SGID's own engine uses by default, in 32 bits."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    world: World,
    pipeline: StableDiffusionImg2ImgPipeline,
    part: Part,
    texts: list[str],
    strength: float | None,
    guidance_scale: float,
    steps: int,
    *,
    batch_size: int = 64,
) -> NDArray[np.uint8]:
    """One image of the part's own kind per image of `part`, by diffusers' pipeline; seed = row.

    Without a strength the image is made from the text alone.
    """
    painter: Any = pipeline
    if strength is None:
        painter = StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False)
        painter.set_progress_bar_config(disable=True)
    mode = "RGB" if part.images.ndim == 4 else "L"
    made = []
    for start in range(0, len(part.images), batch_size):
        rows = range(start, min(start + batch_size, len(part.images)))
        names = [world.class_names[part.labels[i]] for i in rows]
        images = pictures(part.images[start : start + batch_size])
        source = {"height": 32, "width": 32} if strength is None else {
            "image": images, "strength": strength
        }  # fmt: skip
        batch = painter(
            prompt=[
                PROMPT.format(label=name, caption=texts[i]).removesuffix(", ")
                for name, i in zip(names, rows, strict=True)
            ],
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(i) for i in rows],
            **source,
        ).images
        made += [np.asarray(image.convert(mode)) for image in batch]
    return np.stack(made)
