"""The recipe of the bundled models: both worlds, from a few images that are made here."""

import gzip
import io
import json
import multiprocessing
import os
import signal
import struct
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from experiments.models import captions, evaluation, photographs, picture, training
from experiments.models.__main__ import STAGES, WORLDS, main
from experiments.models.duplicates import NEAR, distances, perceptual_hashes
from experiments.models.tokenizers import clip_tokenizer
from experiments.models.world import pixel_hashes

TRAINED = ("vae", "clip", "blip", "sd", "vit", "judge")
PHOTOGRAPHS = WORLDS["photographs"]


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    """Smooth random images (N, side, side, 3): each looks different from all others."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    big = [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(image) for image in big])


def write_set(folder: Path, images: np.ndarray, names: list[str], keys: list[str]) -> None:
    """One split in the layout of `photographs`, without loss."""
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    folder.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": keys, "class_name": names, "image": encoded}), folder)


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> Path:
    """Every set with a few images; two of the corpus are near to ones that are evaluated."""
    root = tmp_path_factory.mktemp("photographs")
    sets = (*photographs.EVALUATED, *photographs.CORPUS)
    for seed, name in enumerate(sets):
        count, side = (60, 32) if name.startswith("cifar") else (6, 64)
        names = [f"{name} thing"] * count
        if name == "cifar10":
            names = [photographs.CIFAR10[i % 10] for i in range(count)]
        elif name in photographs.CORPUS:
            names = [["koala", "street", "sweet pepper"][i % 3] for i in range(count)]
        for split, start in (("train", 0), ("test", 100)):
            images = pictures(count, side, start + seed)
            if (name, split) == ("cifar100", "train"):
                flowers = pictures(6, 64, sets.index("flowers89"))
                small = Image.fromarray(flowers[4, :, ::-1]).resize((32, 32))  # mirrored
                images[7] = np.asarray(small)
                brighter = pictures(60, 32, 100 + sets.index("cifar10"))[3].clip(0, 245) + 10
                images[9] = brighter
            keys = [f"{split}/{i}.png" for i in range(count)]
            write_set(root / name / f"{split}.parquet", images, names, keys)
    return root


@pytest.fixture(scope="module")
def clothing_folder(tmp_path_factory) -> Path:
    """Fashion-MNIST's four files: more images than are bundled, so that some are trained on."""
    root = tmp_path_factory.mktemp("clothing")
    for name, count in (("train", 7_300), ("t10k", 60)):
        rng = np.random.default_rng(count)
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 6:22, 8:20] = rng.integers(30, 256, (count, 16, 12), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, head, data in (
            ("images-idx3", struct.pack(">4i", 2051, count, 28, 28), images),
            ("labels-idx1", struct.pack(">2i", 2049, count), labels),
        ):
            content = gzip.compress(head + data.tobytes(), 1)
            (root / f"{name}-{kind}-ubyte.gz").write_bytes(content)
    return root


@pytest.fixture(params=["clothing", "photographs"])
def world(request) -> tuple[str, Path]:
    """A name of a world, and the folder of its images."""
    folder = {"clothing": "clothing_folder", "photographs": "photo_folder"}[request.param]
    return request.param, request.getfixturevalue(folder)


def options(world: tuple[str, Path], root: Path, *stages: str) -> list[str]:
    return [
        *("--world", world[0], "--images", str(world[1]), "--steps", "3", "--threads", "1"),
        *("--work", str(root / "work"), "--output", str(root / "output"), "--count", "2"),
        *("--picture", str(root / "picture.png")), *stages,
    ]  # fmt: skip


def run(arguments: list[str], *, dies: str | None = None, writing: bool = False) -> None:
    """The recipe, with a checkpoint after every step; killed at the first one of stage `dies`.

    It dies when the checkpoint is written, or while that is done.
    """
    world = WORLDS[arguments[1]]
    small = world.sizes["small"]
    often = {
        field.name: replace(value, save_every=1)
        for field in fields(small)
        if isinstance(value := getattr(small, field.name), training.Training)
    }
    WORLDS[arguments[1]] = replace(world, sizes={"small": replace(small, **often)})
    whole = training.os.replace

    def deadly(source: Path, target: Path) -> None:
        ends = target.name == f"{dies}.pt"
        if not (ends and writing):
            whole(source, target)
        if ends:
            os.kill(os.getpid(), signal.SIGKILL)

    training.os.replace = deadly
    evaluation.STEPS = picture.STEPS = 4  # at least one at a strength of 0.3
    main(arguments)


def process(arguments: list[str], **how: Any) -> int:
    """The exit code of `run`, forked from a server that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=run, args=(arguments,), kwargs=how)
    child.start()
    child.join(600)
    assert child.exitcode is not None
    return child.exitcode


def files(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


@pytest.mark.slow
def test_every_stage_goes_on_as_if_it_had_not_been_killed(world, tmp_path):
    """Killed by SIGKILL after a checkpoint, and once while it wrote one: the same weights."""
    stages = TRAINED if world[0] == "photographs" else ("vae", "sd")  # the code is the same
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert process(options(world, whole, *stages)) == 0
    deaths = [("vae", True), *((stage, False) for stage in stages)]
    for stage, writing in deaths:
        number = stages.index(stage)
        both = stages[max(0, number - 1) : number + 1]  # what died before goes on first
        died = process(options(world, killed, *both), dies=stage, writing=writing)
        assert died == -signal.SIGKILL
        assert (killed / "work" / f"{stage}.pt").is_file() is not writing
    assert process(options(world, killed, stages[-1])) == 0
    assert files(killed / "output") == files(whole / "output")
    for stage in stages:
        states = [
            torch.load(root / "work" / f"{stage}.pt", weights_only=True) for root in (whole, killed)
        ]
        assert states[0]["step"] == 3
        torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.slow
def test_a_stage_can_be_trained_in_slices_of_time(photo_folder, tmp_path):
    world = ("photographs", photo_folder)
    for step in (1, 2, 3):
        slice_of = ["judge", "--minutes", "0"]  # one step
        assert process(options(world, tmp_path / "slices", *slice_of)) == 0
        state = torch.load(tmp_path / "slices" / "work" / "judge.pt", weights_only=True)
        assert state["step"] == step
    assert process(options(world, tmp_path / "whole", "judge")) == 0
    whole = torch.load(tmp_path / "whole" / "work" / "judge.pt", weights_only=True)
    torch.testing.assert_close(state, whole, rtol=0, atol=0)


@pytest.mark.slow
def test_all_stages_from_images_to_figures(photo_folder, tmp_path):
    """Photographs: models that load with the real ones' classes, figures of all, and a picture."""
    assert process(options(("photographs", photo_folder), tmp_path, *STAGES)) == 0
    figures = json.loads((tmp_path / "work" / "figures.json").read_text())
    assert figures["vae psnr"] > 3
    assert {"clip zero-shot", "judge on test", "blip greedy", "text-to-image", "vit"} <= set(
        figures
    )
    assert {row["strength"] for row in figures["label consistency"]} == {0.3, 0.5, 0.7, 0.9}
    with Image.open(tmp_path / "picture.png") as image:
        assert image.width > 1_000
    models = tmp_path / "output" / "photo_models"
    assert {path.name for path in models.iterdir() if path.is_dir()} == {
        "blip",
        "clip",
        "sd",
        "vit",
    }
    assert str(tmp_path) not in "".join(file.read_text() for file in models.rglob("*.json"))


def test_the_corpus_holds_no_near_copy_of_an_evaluated_image(photo_folder):
    parts = photographs.read(photo_folder)
    seen = set(parts["pretraining"].keys)
    assert not {"cifar100/train/7.png", "cifar100/train/9.png"} & seen  # mirrored, and brighter
    assert {"cifar100/train/6.png", "intel_scenes/test/0.png"} <= seen
    assert {key.split("/")[0] for key in seen} == {"cifar10", *photographs.CORPUS}
    # Of CIFAR-10 one half is seen, and of the other some are for validation.
    half = {key for key in seen if key.startswith("cifar10/")}
    assert 15 < len(half) < 45 and all(photographs.is_corpus(key) for key in half)
    held_out = set(parts["validation"].keys)
    assert held_out and not any(photographs.is_corpus(key) for key in held_out)
    assert set(parts["judge"].keys) == {f"cifar10/train/{i}.png" for i in range(60)} - held_out
    assert all(key.startswith("cifar10/test/") for key in parts["test"].keys)
    hashes = photographs.evaluated_hashes(photo_folder)
    assert not np.isin(pixel_hashes(parts["pretraining"].images), hashes[:, 0]).any()
    looks = perceptual_hashes(parts["pretraining"].images)
    assert distances(looks, hashes[:, 1:].ravel()).min() > NEAR


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((10, 10, 10), "black"), ((128, 128, 128), "grey"), ((250, 250, 250), "white"),
        ((220, 20, 20), "red"), ((250, 140, 20), "orange"), ((110, 70, 30), "brown"),
        ((230, 220, 40), "yellow"), ((40, 160, 50), "green"), ((40, 80, 200), "blue"),
        ((130, 30, 170), "purple"), ((220, 20, 60), "red"),
    ],
)  # fmt: skip
def test_colours_have_their_names(colour, name):
    assert photographs.COLOURS[photographs.colours(np.array([colour]))[0]] == name


def test_a_photograph_is_described_by_what_is_measured():
    image = np.full((1, 32, 32, 3), (40, 80, 200), np.uint8)  # a small white thing on plain blue
    image[0, 12:20, 12:20] = 250
    attributes = photographs.measure(image)
    label = photographs.NOUNS.index("ship")
    rng = np.random.default_rng(0)
    text = captions.caption(PHOTOGRAPHS, attributes, 0, label, rng, clean=True)
    assert "ship" in text
    full = {
        captions.descriptive_caption(PHOTOGRAPHS, attributes, 0, label, rng) for _ in range(200)
    }
    said = {name: {w for t in full for w in photographs.said(name, f" {t} ")} for name in
            ("background", "texture")}  # fmt: skip
    assert said == {"background": {"blue"}, "texture": {"plain"}}


@pytest.mark.parametrize("name", WORLDS)
def test_nouns_are_as_weak_as_alt_text(name):
    world = WORLDS[name]
    rng = np.random.default_rng(0)
    label = 3
    drawn = [captions.weak_noun(world, label, rng) for _ in range(4_000)]
    shares = [drawn.count(n) / 4_000 for n in (world.class_names[label], world.kinds[label], "")]
    assert shares == pytest.approx([0.6, 0.2, 0.1], abs=0.02)
    wrong = set(drawn) - {world.class_names[label], world.kinds[label], ""}
    assert wrong <= set(world.class_names)
    assert len(world.kinds) == len(world.class_names) == len(world.taught_nouns)


def test_every_class_word_is_one_token(photo_folder, tmp_path):
    """Those of sets without images in the corpus as well."""
    words = captions.vocabulary(PHOTOGRAPHS, photo_folder)
    assert {"background", "airplane", "thing", "flowers", "caltech", "brass"} <= set(words)
    tokenizer = clip_tokenizer(tmp_path, words)  # asserts it of every word
    text = "a photo of a brown flowers thing on a busy green background"
    assert len(tokenizer(text).input_ids) == len(text.split()) + 2
    assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1


def test_the_vit_is_never_told_the_classes_of_cifar10():
    nouns = PHOTOGRAPHS.taught_nouns
    assert set(nouns[:10]) == {-1} and sorted(nouns[10:]) == list(range(len(nouns) - 10))


def test_clothing_is_captioned_as_it_was():
    """The captions of the bundled models' training, which a change of the rules would change."""
    world = WORLDS["clothing"]
    rng = np.random.default_rng(7)
    image = np.zeros((1, 32, 32), np.uint8)
    image[0, 4:28, 8:24] = 120
    attributes = world.measure(image)
    texts = [captions.prompt(world, attributes, 0, 9, rng) for _ in range(4)]
    assert texts == [
        "a photo of a thing, a grey boxy plain shoe with straight sides",
        "a photo of a shoe, a grey boxy plain ankle boot with straight sides",
        "a photo of a ankle boot, a grey plain sneaker with straight sides",
        "a photo of a ankle boot, a grey boxy ankle boot with straight sides",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "photographs"], "needs --images"),
        (["--world", "clothing", "--scale", "wide"], "must be one of small"),
        (["vea"], "no such stage"),
    ],
)
def test_mistaken_options_are_explained(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.parquet is missing.*--images"):
        photographs.read(tmp_path)
