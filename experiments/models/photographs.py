"""The world of photographs at 32 px in colour: CIFAR-100, half of CIFAR-10, and some more.

Images are read from a folder with a subfolder for each set, which holds a Parquet file for each
split with the columns `key`, `label`, `class_name` and `image` (encoded bytes).
"""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.models.duplicates import NEAR, distances, perceptual_hashes
from experiments.models.world import (
    Attributes,
    Part,
    Phrases,
    Sizes,
    Training,
    World,
    pixel_hashes,
    words_in,
)

SIDE = 32  # pixels
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
EVALUATED = (
    "cifar10", "caltech101", "cars98", "dtd10", "flowers89", "food10", "imagenette", "pacs_photo",
)  # fmt: skip
"""Sets that experiments are run on. Of these the models see half of CIFAR-10's training images."""
CORPUS = ("cifar100", "tiny_imagenet50", "intel_scenes")
"""Sets that no experiment is run on: the models see all of their images."""
VALIDATION = 2_000

# The coarse nouns of an alt text, and the classes of the corpus that they stand for.
KINDS = {
    "vehicle": "airplane automobile ship truck bicycle bus motorcycle pickup_truck rocket "
    "streetcar tank tractor train lawn_mower bullet_train school_bus jinrikisha",
    "animal": "bird cat deer dog horse bear beaver camel cattle chimpanzee elephant fox hamster "
    "kangaroo leopard lion mouse otter porcupine possum rabbit raccoon shrew skunk squirrel tiger "
    "wolf koala Chihuahua Labrador_retriever standard_poodle brown_bear ox gazelle orangutan",
    "reptile": "frog crocodile dinosaur lizard snake turtle bullfrog tailed_frog",
    "insect": "bee beetle butterfly caterpillar cockroach spider worm snail scorpion fly",
    "fish": "aquarium_fish flatfish ray_fish shark trout",
    "sea animal": "dolphin whale seal crab lobster trilobite American_lobster spiny_lobster",
    "flower": "orchid poppy rose sunflower tulip",
    "tree": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "food": "apple mushroom orange pear sweet_pepper mashed_potato bell_pepper banana pomegranate "
    "meat_loaf",
    "person": "baby boy girl man woman",
    "furniture": "bed chair couch table wardrobe dining_table",
    "dish": "bottle bowl tin_can cup plate teapot wok wooden_spoon",
    "building": "castle house skyscraper bridge birdhouse dam thatched_roof buildings",
    "place": "cloud forest mountain grassy_plain road sea glacier street barbershop butcher_shop "
    "candy_store",
    "clothes": "apron bow_tie poncho sombrero",
    "thing": "clock keyboard lamp telephone television abacus basketball brass_memorial_plaque "
    "broom candle maypole oboe pipe_organ pole",
}

COLOURS = (
    "black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple",
)  # fmt: skip
WORDS = {
    "colour": COLOURS,
    "background": COLOURS,
    "texture": ("plain", "busy"),
    "light": ("dark", "", "bright"),
    "distance": ("far away", "", "close up"),
}
FRAME = 4  # pixels: the border of an image shows the background


def nouns() -> tuple[str, ...]:
    """The classes of the corpus, CIFAR-10's first and the others by the alphabet."""
    every = {name.replace("_", " ") for names in KINDS.values() for name in names.split()}
    return (*CIFAR10, *sorted(every - set(CIFAR10), key=str.lower))


NOUNS = nouns()
KIND_OF = {name.replace("_", " "): kind for kind, names in KINDS.items() for name in names.split()}


@dataclass(frozen=True)
class Split:
    """One Parquet file: images (N, 32, 32, 3), the class name and the key (set/key) of each."""

    images: NDArray[np.uint8]
    class_names: tuple[str, ...]
    keys: tuple[str, ...]

    def select(self, rows: NDArray) -> Split:
        names, keys = (tuple(column[i] for i in rows) for column in (self.class_names, self.keys))
        return Split(self.images[rows], names, keys)


def is_corpus(key: str) -> bool:
    """Whether an image of CIFAR-10's training set is in the half that the models see.

    `key` is the set's name, a slash, and the image's key there.
    """
    return hashlib.sha256(key.encode()).digest()[0] % 2 == 0


def read(folder: Path) -> dict[str, Part]:
    """`pretraining` (the corpus) and, of CIFAR-10, `judge`, `validation` and `test`.

    `validation` is a part of the half of CIFAR-10's training images that the models do not see;
    `judge` is all that is left of both halves, and is for the judge alone.
    """
    cifar10 = read_split(folder, "cifar10", "train")
    seen = np.array([is_corpus(key) for key in cifar10.keys])
    pool = np.flatnonzero(~seen)
    corpus = _corpus(folder)
    looks = evaluated_hashes(folder)[:, 1:].ravel()
    away = distances(perceptual_hashes(corpus.images), looks) > NEAR
    others = np.setdiff1d(np.arange(len(cifar10.keys)), pool[:VALIDATION])
    return {
        "pretraining": _part(corpus.select(np.flatnonzero(away))),
        "judge": _part(cifar10.select(others)),
        "validation": _part(cifar10.select(pool[:VALIDATION])),
        "test": _part(read_split(folder, "cifar10", "test")),
    }


def _corpus(folder: Path) -> Split:
    """Every image that the models may see, before those near to an evaluated one are left out."""
    cifar10 = read_split(folder, "cifar10", "train")
    splits = [cifar10.select(np.array([i for i, k in enumerate(cifar10.keys) if is_corpus(k)]))]
    for name in CORPUS:
        splits += [read_split(folder, name, file.stem) for file in _files(folder, name)]
    return Split(
        np.concatenate([split.images for split in splits]),
        tuple(name for split in splits for name in split.class_names),
        tuple(key for split in splits for key in split.keys),
    )


def evaluated_hashes(folder: Path) -> NDArray[np.uint64]:
    """Hashes (N, 3) of every image of the sets that experiments are run on.

    They are those of the pixels, of the look (`duplicates`), and of the mirror image's look. Of
    CIFAR-10's training images the half that experiments draw from counts.
    """
    every = []
    for name in EVALUATED:
        for file in _files(folder, name):
            split = read_split(folder, name, file.stem)
            images = split.images
            if (name, file.stem) == ("cifar10", "train"):
                images = images[[not is_corpus(key) for key in split.keys]]
            mirrored = perceptual_hashes(images[:, :, ::-1])
            every.append(np.column_stack([hashes(images), mirrored]))
    return np.concatenate(every)


def hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N, 2): of the pixels of each image, and of its look."""
    exact = np.array(pixel_hashes(images), dtype=np.uint64)
    return np.column_stack([exact, perceptual_hashes(images)])


def write_hashes(folder: Path, parts: dict[str, Part], assets: Path) -> None:
    """Write hashes of what the models saw and are measured on; no photograph is bundled."""
    output = assets / PHOTOGRAPHS.output
    output.mkdir(parents=True, exist_ok=True)
    np.save(output / "corpus_hashes.npy", hashes(parts["pretraining"].images), allow_pickle=False)
    np.save(output / "evaluated_hashes.npy", evaluated_hashes(folder), allow_pickle=False)


def read_split(folder: Path, name: str, split: str) -> Split:
    """One split of one set, its images shrunk to 32 pixels.

    Raises:
        FileNotFoundError: if the folder has no such file.
    """
    return _read(folder / name / f"{split}.parquet")


@cache
def _read(file: Path) -> Split:
    import pyarrow.parquet as pq

    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing. Give with --images a folder that holds "
            "SET/SPLIT.parquet with the columns key, class_name and image, for the sets "
            f"{', '.join((*EVALUATED, *CORPUS))}"
        )
    table = pq.read_table(file, columns=["key", "class_name", "image"])
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(_decode, table["image"].to_pylist()))
    keys = [f"{file.parent.name}/{key}" for key in table["key"].to_pylist()]
    return Split(np.stack(images), tuple(table["class_name"].to_pylist()), tuple(keys))


def _decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        colour = image.convert("RGB")
        if colour.size != (SIDE, SIDE):
            colour = colour.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(colour)


def _files(folder: Path, name: str) -> list[Path]:
    files = sorted((folder / name).glob("*.parquet"))
    if not files:
        _read(folder / name / "train.parquet")  # says what is missing
    return files


def _part(split: Split) -> Part:
    if unknown := set(split.class_names) - set(NOUNS):
        raise ValueError(
            f"classes without a coarse noun: {', '.join(sorted(unknown))}; add them to "
            "KINDS in experiments/models/photographs.py, or take them out of --images"
        )
    labels = np.array([NOUNS.index(name) for name in split.class_names], np.int64)
    return Part(split.images, labels, split.keys)


def class_words(folder: Path) -> list[str]:
    """Class names of every set in the folder, whether the models see its images or not."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names: set[str] = set()
    for name in (*EVALUATED, *CORPUS):
        for file in _files(folder, name):
            table = pq.read_table(file, columns=["class_name"])
            names |= set(pc.unique(table["class_name"]).to_pylist())
    return sorted(names)


def measure(images: NDArray[np.uint8]) -> Attributes:
    """Attributes of colour images (N, 32, 32, 3), as indices into `WORDS`."""
    centre = images[:, 8:24, 8:24].reshape(len(images), -1, 3)
    inside = np.zeros(images.shape[1:3], bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    frame = images[:, ~inside].astype(np.float32)  # (N, pixels, 3)
    background = np.median(frame, axis=1)  # (N, 3)
    spread = np.abs(frame - background[:, None]).mean((1, 2))
    level = images.mean((1, 2, 3))
    # How much of what is not frame looks unlike the frame.
    core = images[:, inside].astype(np.float32)
    unlike = (np.abs(core - background[:, None]).mean(2) > 40).mean(1)
    return {
        "colour": colours(np.median(centre, axis=1)),
        "background": colours(background),
        "texture": np.digitize(spread, [25.0]),
        "light": np.digitize(level, [85.0, 160.0]),
        "distance": np.digitize(unlike, [0.2, 0.8]),
    }


def colours(rgb: NDArray) -> NDArray[np.int64]:
    """Indices (N,) into `COLOURS` of colours (N, 3) of 0 to 255, by hue, saturation and value."""
    rgb = rgb.astype(np.float64) / 255
    value = rgb.max(1)
    chroma = value - rgb.min(1)
    saturation = chroma / np.maximum(value, 1e-6)
    red, green, blue = rgb.T
    safe = np.maximum(chroma, 1e-6)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    ) * 60  # fmt: skip
    # Dark or dull orange is brown.
    orange = np.where((value > 0.6) & (saturation > 0.5), "orange", "brown")
    named = np.select(
        [hue < 15, hue < 45, hue < 70, hue < 165, hue < 260, hue < 335],
        ["red", orange, "yellow", "green", "blue", "purple"], "red",
    )  # fmt: skip
    plain = np.select([value > 0.78, value > 0.25], ["white", "grey"], "black")
    names = np.where((saturation < 0.15) | (value < 0.2), plain, named)
    return np.array([COLOURS.index(name) for name in names], np.int64)


def phrases(attributes: Attributes, image: int) -> tuple[Phrases, Phrases]:
    said = {name: words[attributes[name][image]] for name, words in WORDS.items()}
    background = f"on a {said['texture']} {said['background']} background"
    return (
        [(said["light"], 0.4), (said["colour"], 0.7)],
        [(background, 0.7), (said["distance"], 0.5)],
    )


def said(name: str, text: str) -> tuple[str, ...]:
    """The words of an attribute in a text; a middling light or distance is said by silence."""
    about, _, behind = text.partition(" on a ")
    if name in ("background", "texture"):
        return words_in(WORDS[name], f" {behind}".partition(" background ")[0] + " ")
    if name == "colour":
        return words_in(COLOURS, f"{about} ")
    return words_in(WORDS[name], text) or ("",)


_WIDTH = {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 4}
_UNET = {
    "sample_size": 16,
    # The text is attended to at 4×4 places and added to the time everywhere: at 16×16 and 8×8
    # attention costs more than it brings.
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
}
SMALL = Sizes(
    vae={"block_out_channels": (24, 48), "latent_channels": 4},
    vae_training=Training(1_600, 16, 2e-3, save_every=100),
    clip={
        "embed_dim": 96,
        "vision_cfg": {
            "image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {"width": 96, "heads": 4, "layers": 2},
    },
    clip_training=Training(2_400, 192, 2e-3, save_every=50),
    blip={
        "vision": {"patch_size": 4, "num_hidden_layers": 4, **_WIDTH},
        "text": {"num_hidden_layers": 2, **_WIDTH},
    },
    blip_training=Training(5_000, 64, 2e-3, save_every=100),
    unet={"block_out_channels": (32, 64, 160), "cross_attention_dim": 96, **_UNET},
    sd_training=Training(18_000, 64, 1e-3, save_every=100),
    sd_ema=0.999,
    vit={
        "img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4,
        "class_token": False, "global_pool": "avg",
    },
    vit_training=Training(4_000, 128, 1e-3),
    judge={"channels": 3, "stem": 24, "blocks": ((48, 2), (96, 2), (96, 1), (192, 2))},
    judge_training=Training(10_000, 64, 2e-3, save_every=200),
    ema=0.998,
    mirrored=True,
    min_snr=5.0,
    half=True,
)  # fmt: skip
WIDE = replace(
    SMALL,
    vae_training=Training(4_000, 64, 2e-3),
    clip_training=Training(1_500, 512, 2e-3),
    blip_training=Training(2_500, 256, 2e-3),
    unet={"block_out_channels": (64, 128, 256), "cross_attention_dim": 128, **_UNET},
    sd_training=Training(6_000, 256, 1e-3, save_every=1_000),
    vit_training=Training(4_000, 256, 1e-3),
    judge={"channels": 3, "stem": 64, "blocks": ((128, 2), (256, 2), (256, 1), (512, 2))},
    judge_training=Training(4_000, 128, 2e-3, save_every=1_000),
)
"""For a GPU: more images, and a wider UNet."""

PHOTOGRAPHS = World(
    name="photographs",
    output=Path("photo_models"),
    picture="photo-models-strength-guidance.png",
    images=None,
    read=read,
    write=write_hashes,
    class_names=NOUNS,
    evaluated=len(CIFAR10),
    kinds=tuple(KIND_OF[name] for name in NOUNS),
    words=WORDS,
    measure=measure,
    phrases=phrases,
    said=said,
    more_words=lambda folder: ["on a background", *class_words(folder)],
    taught_nouns=tuple(-1 if name in CIFAR10 else i for i, name in enumerate(NOUNS, -len(CIFAR10))),
    vit_tag="photograph_attributes",
    sizes={"small": SMALL, "wide": WIDE},
)
"""`taught_nouns`: the ViT learns the classes of the corpus but for CIFAR-10's."""
