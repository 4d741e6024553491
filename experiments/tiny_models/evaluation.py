"""What the finished models can do, measured on images that none of them was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionImg2ImgPipeline,
)
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from experiments.tiny_models import captions
from experiments.tiny_models.clip import zero_shot
from experiments.tiny_models.images import CLASS_NAMES, Part
from experiments.tiny_models.judge import accuracy, verdicts
from experiments.tiny_models.vae import psnr
from sgid.models.blip import BlipCaptioner
from sgid.models.clip import OpenClipScorer

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
PROMPT = "a photo of a {label}, {caption}"


def measure_all(models: Path, judge: nn.Module, parts: dict[str, Part]) -> dict:
    """Every figure of the bundled models, on validation images (the judge: on test images)."""
    part = parts["validation"]
    every_fourth = part.select(np.arange(0, len(part.images), 4))
    candidates = write_captions(models / "blip", part)
    greedy = [texts[0] for texts in candidates]
    sampled = [texts[-1] for texts in candidates]
    return {
        "vae psnr": psnr(AutoencoderKL.from_pretrained(models / "sd" / "vae"), part),
        "clip zero-shot": zero_shot(models / "clip", part),
        "similarity": similarity_spread(models / "clip", part, candidates),
        "blip greedy": caption_shares(greedy, part),
        "blip nucleus": caption_shares(sampled, part),
        "judge on test": accuracy(judge, parts["test"]),
        "judge on these": accuracy(judge, every_fourth),
        "label consistency": list(
            label_consistency(models / "sd", judge, every_fourth, greedy[::4])
        ),
    }


def pictures(images: NDArray[np.uint8]) -> list[Image.Image]:
    return [Image.fromarray(image).convert("RGB") for image in images]


def write_captions(folder: Path, part: Part, *, candidates: int = 5) -> list[tuple[str, ...]]:
    """Distinct candidate captions of each image, the greedy one first."""
    captioner = BlipCaptioner(
        folder, candidates=candidates, top_p=0.9, max_tokens=24, seed=0, batch_size=64, **CPU
    )
    return list(captioner(pictures(part.images), part.keys))


def caption_shares(texts: list[str], part: Part) -> dict[str, float]:
    """Share of captions whose noun fits the label, and that name the measured attributes."""
    measured = captions.measure(part.images)
    named = {
        "brightness": (captions.BRIGHTNESS, measured.brightness),
        "texture": (captions.TEXTURE, measured.texture),
        "shape": (captions.SHAPE, measured.shape),
        "detail": (captions.DETAIL, measured.detail),
    }
    # BERT's decoder writes "t - shirt"; a noun counts where no other class's is said as well.
    texts = [f" {text.replace(' - ', '-')} " for text in texts]
    shares = {}
    for name, (words, truth) in named.items():
        shares[name] = np.mean(
            [f" {words[i]} " in text for text, i in zip(texts, truth, strict=True)]
        )
    exact = [
        f" {CLASS_NAMES[label]} " in text for text, label in zip(texts, part.labels, strict=True)
    ]
    coarse = [
        f" {captions.COARSE[label]} " in text
        for text, label in zip(texts, part.labels, strict=True)
    ]
    shares["exact noun"] = np.mean(exact)
    shares["exact or coarse noun"] = np.mean([a or b for a, b in zip(exact, coarse, strict=True)])
    return {name: float(value) for name, value in shares.items()}


def similarity_spread(
    folder: Path, part: Part, candidates: list[tuple[str, ...]]
) -> dict[str, float]:
    """Cosines of image and best caption, and of the same captions with another class's noun."""
    scorer = OpenClipScorer(folder, batch_size=256, **CPU)
    images = scorer.embed_images(pictures(part.images))

    def cosines(rows: list[int], texts: list[str]) -> NDArray[np.float32]:
        return (images[rows] * scorer.embed_texts(texts)).sum(1)

    rows = [row for row, texts in enumerate(candidates) for _ in texts]
    every = cosines(rows, [text for texts in candidates for text in texts])
    scores = np.split(every, np.cumsum([len(texts) for texts in candidates])[:-1])
    best = [own.max() for own in scores]

    texts = [own[0].replace(" - ", "-") for own in candidates]
    named = [row for row, label in enumerate(part.labels) if f" {CLASS_NAMES[label]}" in texts[row]]
    # Five on is another kind of clothing: a sneaker for a pullover.
    swapped = [
        texts[row].replace(CLASS_NAMES[label], CLASS_NAMES[(label + 5) % len(CLASS_NAMES)])
        for row, label in zip(named, part.labels[named], strict=True)
    ]
    right, wrong = cosines(named, [texts[row] for row in named]), cosines(named, swapped)
    p5, p50, p95 = np.quantile(best, [0.05, 0.5, 0.95])
    return {
        "best p5": float(p5),
        "best p50": float(p50),
        "best p95": float(p95),
        "deviation within an image": float(np.mean([own.std() for own in scores])),
        "greedy, right noun p50": float(np.median(right)),
        "greedy, wrong noun p50": float(np.median(wrong)),
        "right above wrong": float((right > wrong).mean()),
    }


def label_consistency(
    folder: Path,
    judge: nn.Module,
    part: Part,
    texts: list[str],
    *,
    strengths: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9),
    guidance_scales: tuple[float, ...] = (1.0, 3.0, 5.0, 7.5),
    steps: int = 16,
) -> Iterator[dict[str, float]]:
    """Share of generated images that the judge gives the source's label, and the mean change.

    The prompt is label and caption, as in SGID; an empty caption makes it the label alone. The
    change is the mean absolute difference of pixels from the source, in grey levels of 255.
    """
    pipeline = load(folder)
    for strength in strengths:
        for scale in guidance_scales:
            made = generate(pipeline, part, texts, strength, scale, steps)
            change = np.abs(made.astype(np.float32) - part.images).mean()
            yield {
                "strength": strength,
                "guidance": scale,
                "consistent": float((verdicts(judge, made) == part.labels).mean()),
                "change": float(change),
            }


def load(folder: Path) -> StableDiffusionImg2ImgPipeline:
    """The pipeline with the solver that SGID's own engine uses by default."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionImg2ImgPipeline,
    part: Part,
    texts: list[str],
    strength: float,
    guidance_scale: float,
    steps: int,
    *,
    batch_size: int = 64,
) -> NDArray[np.uint8]:
    """One grey image (N, 32, 32) per image of `part`, by diffusers' own pipeline; seed = row."""
    made = []
    for start in range(0, len(part.images), batch_size):
        rows = range(start, min(start + batch_size, len(part.images)))
        prompts = [
            PROMPT.format(label=CLASS_NAMES[part.labels[i]], caption=texts[i]).removesuffix(", ")
            for i in rows
        ]
        batch = pipeline(
            prompt=prompts,
            image=pictures(part.images[start : start + batch_size]),
            strength=strength,
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(i) for i in rows],
        ).images
        made += [np.asarray(image.convert("L")) for image in batch]
    return np.stack(made)
