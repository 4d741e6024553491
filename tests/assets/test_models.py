"""The bundled models load offline with the code that loads the real ones, and know clothing."""

import io
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import timm
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionImg2ImgPipeline,
)
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2.functional import pil_to_tensor
from transformers import AutoProcessor, BlipForConditionalGeneration

import sgid

ASSETS = Path(sgid.__file__).parent / "assets"
MODELS = ASSETS / "models"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npz", ".h5"}


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def validation() -> tuple[list[Image.Image], np.ndarray, list[str]]:
    """200 pictures, 20 of each class, with labels and class names."""
    return read("validation")


@pytest.fixture(scope="module")
def train() -> tuple[list[Image.Image], np.ndarray, list[str]]:
    """200 others."""
    return read("train")


def read(part: str) -> tuple[list[Image.Image], np.ndarray, list[str]]:
    table = pq.read_table(ASSETS / "fashion" / f"{part}.parquet")
    labels = table["label"].to_numpy()
    rows = np.concatenate([np.flatnonzero(labels == label)[:20] for label in range(10)])
    pictures = [
        Image.open(io.BytesIO(table["image"][int(row)]["bytes"].as_py())).convert("RGB")
        for row in rows
    ]
    return pictures, labels[rows], class_names(table)


def class_names(table) -> list[str]:
    from datasets import Features

    return Features.from_arrow_schema(table.schema)["label"].names


def test_models_are_small_and_hold_no_pickles():
    files = [file for file in MODELS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25 * 1024**2
    every = [file for file in ASSETS.rglob("*") if file.is_file()]
    assert not [file for file in every if file.suffix in PICKLES]
    assert (MODELS / "README.md").is_file() and "MIT" in (MODELS / "LICENSE").read_text()


@pytest.mark.parametrize("file", sorted(MODELS.rglob("*.safetensors")), ids=lambda f: f.parent.name)
def test_weights_are_finite(file):
    assert all(torch.isfinite(weight).all() for weight in load_file(file).values())


@torch.inference_mode()
def test_clip_knows_the_classes(validation):
    pictures, labels, names = validation
    name = f"local-dir:{MODELS / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenize = open_clip.get_tokenizer(name)
    images = model.eval().encode_image(
        torch.stack([preprocess(picture) for picture in pictures]), normalize=True
    )
    texts = model.encode_text(tokenize([f"a photo of a {n}" for n in names]), normalize=True)
    right = (images @ texts.T).argmax(1).numpy() == labels
    assert right.mean() >= 0.7


def probe(model, few, held_out) -> float:
    """Accuracy of a linear classifier of the model's features, by ridge regression."""

    def features(images):
        pixels = torch.stack([pil_to_tensor(image) for image in images]).float() / 127.5 - 1
        return torch.nn.functional.pad(model(pixels), (0, 1), value=1.0)  # (N, D + 1)

    (images, labels, _), (others, expected, _) = few, held_out
    known = features(images)
    mean, deviation = known[:, :-1].mean(0), known[:, :-1].std(0).clip(1e-6)

    def scaled(x):
        return torch.cat([(x[:, :-1] - mean) / deviation, x[:, -1:]], 1)

    a, targets = scaled(known), torch.nn.functional.one_hot(torch.tensor(labels), 10).float()
    weights = torch.linalg.solve(a.T @ a + 10 * torch.eye(a.shape[1]), a.T @ targets)
    return float(((scaled(features(others)) @ weights).argmax(1).numpy() == expected).mean())


@torch.inference_mode()
def test_vit_has_learned_to_see(train, validation):
    """timm loads it by its folder; a few images are enough to tell the classes by its features."""
    name = f"local-dir:{MODELS / 'vit'}"
    trained = timm.create_model(name, pretrained=True, num_classes=0).eval()
    torch.manual_seed(0)
    random = timm.create_model(name, pretrained=False, num_classes=0).eval()
    assert probe(trained, train, validation) > 0.65 > probe(random, train, validation)


@torch.inference_mode()
def test_vit_was_taught_attributes_and_not_the_classes(validation):
    pictures, _, _ = validation
    model = timm.create_model(f"local-dir:{MODELS / 'vit'}", pretrained=True).eval()
    assert model.num_classes == 3 + 3 + 3 + 10 + 4
    pixels = torch.stack([pil_to_tensor(picture) for picture in pictures]).float() / 127.5 - 1
    brightness = model(pixels)[:, :3].argmax(1).numpy()  # dark, grey, white
    levels = np.array([np.asarray(p.convert("L"))[np.asarray(p.convert("L")) > 20].mean()
                       for p in pictures])  # fmt: skip
    assert levels[brightness == 0].mean() < 95 < 165 < levels[brightness == 2].mean()


@torch.inference_mode()
def test_blip_writes_known_words(validation):
    pictures, _, _ = validation
    processor = AutoProcessor.from_pretrained(MODELS / "blip")
    model = BlipForConditionalGeneration.from_pretrained(MODELS / "blip").eval()
    inputs = processor(images=pictures, return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    texts = processor.batch_decode(tokens, skip_special_tokens=True)
    assert all(3 <= len(text.split()) <= 16 for text in texts)
    assert np.mean([" plain " in t or " patterned " in t or " striped " in t for t in texts]) > 0.7
    levels = np.array([np.asarray(p.convert("L"))[np.asarray(p.convert("L")) > 20].mean()
                       for p in pictures])  # fmt: skip
    dark, white = (np.array([word in text for text in texts]) for word in ("dark", "white"))
    assert levels[dark].mean() < 100 < 160 < levels[white].mean()


@torch.inference_mode()
def test_any_text_can_be_read():
    pipeline_tokenizer = StableDiffusionImg2ImgPipeline.from_pretrained(MODELS / "sd").tokenizer
    processor = AutoProcessor.from_pretrained(MODELS / "blip")
    for tokenizer in (pipeline_tokenizer, processor.tokenizer):
        assert len(tokenizer("a dark ankle boot").input_ids) == 6  # a token per word, two ends
        unknown = tokenizer("zx quark").input_ids
        assert tokenizer.unk_token_id not in unknown[1:-1]
        text = tokenizer.decode(unknown, skip_special_tokens=True)
        assert text.replace(" ", "") == "zxquark"


def test_img2img_changes_pictures_as_told(validation):
    pictures, labels, names = validation
    pictures, labels = pictures[::20], labels[::20]
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(MODELS / "sd")
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    sources = np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])
    change = {}
    for strength in (0.3, 0.9):
        made = pipeline(
            prompt=[f"a photo of a {names[label]}" for label in labels],
            image=pictures,
            strength=strength,
            guidance_scale=3.0,
            num_inference_steps=12,
            generator=[torch.Generator("cpu").manual_seed(i) for i in range(len(pictures))],
            output_type="np",
        ).images
        assert made.shape == (len(pictures), 32, 32, 3)
        change[strength] = np.abs(made * 255 - sources).mean()
    assert 2 < change[0.3] < change[0.9]


@torch.inference_mode()
def test_unet_knows_how_much_noise_each_timestep_has(validation):
    """By the schedule of Ho et al.: a model trained on times that run backwards fails here."""
    pictures, _, _ = validation
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(MODELS / "sd")
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    clear = pipeline.vae.encode(pipeline.image_processor.preprocess(pictures[:100])).latent_dist
    latents = clear.mean * pipeline.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    states, _ = pipeline.encode_prompt("", "cpu", 100, do_classifier_free_guidance=False)
    for time, limit in ((200, 0.5), (500, 0.2), (800, 0.05)):
        times = torch.full((100,), time)
        noisy = schedule.add_noise(latents, noise, times)
        error = (pipeline.unet(noisy, times, states).sample - noise).square().mean()
        assert error < limit
