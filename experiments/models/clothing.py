"""The world of clothing: Fashion-MNIST in grey at 32 px, and caption rules over measured pixels.

50,000 images are to pre-train on; the rest are bundled for people to work with.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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

CLASS_NAMES = (
    "t-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
POOL, VALIDATION = 500, 200  # images per class
SEED = 0

COARSE = ("top", "clothes", "top", "clothes", "top", "shoe", "top", "shoe", "item", "shoe")
BRIGHTNESS = ("dark", "grey", "white")
TEXTURE = ("plain", "patterned", "striped")
SHAPE = ("wide", "boxy", "narrow")
DETAIL = (
    "with long sleeves", "with short sleeves", "without sleeves", "with two legs",
    "with a thick sole", "with a heel", "with straps", "with a handle", "with a high shaft",
    "with straight sides",
)  # fmt: skip
WORDS = {"brightness": BRIGHTNESS, "texture": TEXTURE, "shape": SHAPE, "detail": DETAIL}


def split(folder: Path = DEBIAN) -> dict[str, Part]:
    """`pretraining` (50,000), `train` (5,000), `validation` (2,000) and `test` (10,000).

    No image is in two parts: one that occurred twice in the original training set, or in the test
    set as well, would go nowhere. (There is none, by the hash of the pixels.)
    """
    train, test = _read(folder, "train"), _read(folder, "t10k")
    hashes = np.array(pixel_hashes(train.images))
    tested = set(pixel_hashes(test.images))
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    once = set(first[counts == 1].tolist())
    free = [i for i, value in enumerate(hashes) if i in once and value not in tested]
    order = np.random.default_rng(SEED).permutation(free)
    rows: dict[str, list[int]] = {"train": [], "validation": []}
    for label in range(len(CLASS_NAMES)):
        own = order[train.labels[order] == label]
        rows["train"] += own[:POOL].tolist()
        rows["validation"] += own[POOL : POOL + VALIDATION].tolist()
    bundled = np.isin(order, rows["train"] + rows["validation"])
    rows["pretraining"] = order[~bundled][:50_000].tolist()
    parts = {name: train.select(np.array(value)) for name, value in rows.items()}
    return {**parts, "test": test}


def write_bundle(_: Path, parts: dict[str, Part], assets: Path) -> None:
    """The bundled parts as Parquet, and the hashes of the pre-training images."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Value
    from datasets import Image as ImageFeature

    schema = Features(
        {
            "image": ImageFeature(),
            "label": ClassLabel(names=list(CLASS_NAMES)),
            "key": Value("string"),
        }
    ).arrow_schema
    output = assets / "fashion"
    output.mkdir(parents=True, exist_ok=True)
    for name in ("train", "validation", "test"):
        part = parts[name]
        rows = [
            {"image": {"bytes": _webp(image), "path": None}, "label": int(label), "key": key}
            for image, label, key in zip(part.images, part.labels, part.keys, strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema), output / f"{name}.parquet")
    hashes = np.sort(np.array(pixel_hashes(parts["pretraining"].images), dtype=np.uint64))
    np.save(output / "pretraining_hashes.npy", hashes, allow_pickle=False)


def _read(folder: Path, name: str) -> Part:
    """Read one of the two original parts, zero-padded from 28 to 32 pixels."""
    files = [folder / f"{name}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing. Fashion-MNIST is Debian's package dataset-fashion-mnist "
                "(apt install dataset-fashion-mnist); elsewhere give its folder with --images."
            )
    images, labels = (gzip.decompress(file.read_bytes()) for file in files)
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    prefix = {"train": "train", "t10k": "test"}[name]
    return Part(
        np.pad(pixels, ((0, 0), (2, 2), (2, 2))),
        np.frombuffer(labels, np.uint8, offset=8),
        tuple(f"{prefix}-{i:05d}" for i in range(len(pixels))),
    )


def _webp(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=6)
    return buffer.getvalue()


def measure(images: NDArray[np.uint8]) -> Attributes:
    """Attributes of grey images (N, 32, 32)."""
    grey = images.astype(np.float32)
    inside = images > 20
    area = inside.sum((1, 2)).clip(1)
    rows, columns = inside.any(2), inside.any(1)  # (N, 32)
    height, width = rows.sum(1).clip(1), columns.sum(1).clip(1)
    top = rows.argmax(1)

    level = (grey * inside).sum((1, 2)) / area
    brightness = np.digitize(level, [95, 165])

    # Texture is looked for within the outline: two pixels from the edge.
    core = inside.copy()
    for _ in range(2):
        core[:, 1:-1, 1:-1] &= (
            core[:, :-2, 1:-1] & core[:, 2:, 1:-1] & core[:, 1:-1, :-2] & core[:, 1:-1, 2:]
        )
    down, over = (_roughness(grey, core, axis) for axis in (1, 2))
    texture = np.where(down + over > 36, 1, 0)
    texture[(down > 2.0 * over) & (down > 16)] = 2

    aspect = width / height
    shape = np.digitize(aspect, [0.62, 1.15])
    shape = 2 - shape  # narrow is low, wide is high
    detail = _detail(inside, top, height, aspect, area / (width * height))
    return {"brightness": brightness, "texture": texture, "shape": shape, "detail": detail}


def _detail(inside, top, height, aspect, fill) -> NDArray[np.int64]:
    """Distinctive parts of the shape, by where the outline has mass and where it has gaps."""
    detail = np.zeros(len(inside), np.int64)

    def share(image: int, low: float, high: float, columns: slice) -> float:
        """Filled share of a band of rows, given as shares of the object's height."""
        start = int(top[image] + low * height[image])
        stop = max(start + 1, int(top[image] + high * height[image]))
        return float(inside[image, start:stop, columns].mean())

    left, right, centre = slice(2, 9), slice(23, 30), range(13, 19)
    for i in range(len(inside)):
        gap = min(share(i, 0.6, 0.95, slice(c, c + 1)) for c in centre)
        top_left, top_right = share(i, 0.0, 0.25, left), share(i, 0.0, 0.25, right)
        hollow = min(share(i, 0.88, 1.0, slice(c, c + 1)) for c in range(10, 22)) < 0.2
        handle = min(share(i, low / 100, low / 100 + 0.06, slice(14, 18)) for low in (12, 20, 28))
        if 0.8 < aspect[i] < 1.6 and top_left < 0.1 and top_right > 0.25:
            name = "with a heel" if hollow else "with a high shaft"
        elif aspect[i] > 1.15 and fill[i] < 0.52:
            name = "with straps"
        elif aspect[i] > 1.15 and fill[i] < 0.8:
            name = "with a heel" if hollow else "with a thick sole"
        elif aspect[i] > 0.7 and handle < 0.1:
            name = "with a handle"
        elif aspect[i] > 1.15 or fill[i] > 0.93:
            name = "with straight sides"
        elif gap < 0.35 and aspect[i] < 0.8:
            name = "with two legs"
        elif aspect[i] < 0.62:
            name = "without sleeves"
        elif share(i, 0.55, 0.85, left) + share(i, 0.55, 0.85, right) > 0.45:
            name = "with long sleeves"
        elif share(i, 0.1, 0.4, left) + share(i, 0.1, 0.4, right) > 0.35:
            name = "with short sleeves"
        else:
            name = "without sleeves"
        detail[i] = DETAIL.index(name)
    return detail


def _roughness(grey, core, axis: int) -> NDArray:
    """Mean absolute grey-level difference of neighbours along an axis, within `core`."""
    both = np.delete(core, 0, axis) & np.delete(core, -1, axis)
    return (np.abs(np.diff(grey, axis=axis)) * both).sum((1, 2)) / both.sum((1, 2)).clip(1)


def phrases(attributes: Attributes, image: int) -> tuple[Phrases, Phrases]:
    said = {name: words[attributes[name][image]] for name, words in WORDS.items()}
    before = [(said["brightness"], 0.75), (said["shape"], 0.35), (said["texture"], 0.7)]
    return before, [(said["detail"], 0.7)]


_WIDTH = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
SMALL = Sizes(
    vae={"block_out_channels": (16, 32, 48), "latent_channels": 8},
    vae_training=Training(4_500, 32, 2e-3),
    clip={
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 32, "patch_size": 4, "width": 64, "layers": 4, "head_width": 16,
        },
        "text_cfg": {"width": 64, "heads": 4, "layers": 2},
    },
    clip_training=Training(1_600, 192, 2e-3),
    blip={
        "vision": {"patch_size": 4, "num_hidden_layers": 4, **_WIDTH},
        "text": {"num_hidden_layers": 2, **_WIDTH},
    },
    blip_training=Training(5_500, 64, 2e-3),
    unet={
        "sample_size": 8,
        "block_out_channels": (48, 96),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 64,
    },
    sd_training=Training(5_000, 64, 1e-3, save_every=500),
    sd_ema=0.998,
    vit={
        "img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4,
        "class_token": False, "global_pool": "avg",
    },
    vit_training=Training(2_500, 128, 1e-3),
    judge={"channels": 1, "stem": 16, "blocks": ((32, 2), (64, 2), (128, 2))},
    judge_training=Training(2_400, 64, 2e-3, save_every=400),
)  # fmt: skip

_KINDS = sorted(set(COARSE))
CLOTHING = World(
    name="clothing",
    output=Path("models"),
    picture="tiny-models-strength-guidance.png",
    images=DEBIAN,
    read=split,
    write=write_bundle,
    class_names=CLASS_NAMES,
    evaluated=len(CLASS_NAMES),
    kinds=COARSE,
    words=WORDS,
    measure=measure,
    phrases=phrases,
    said=lambda name, text: words_in(WORDS[name], text),
    more_words=lambda _: [],
    taught_nouns=tuple(_KINDS.index(noun) for noun in COARSE),
    vit_tag="fashion_attributes",
    sizes={"small": SMALL},
)
"""`taught_nouns`: the ViT learns the coarse noun and is never told the ten classes."""
