"""Fashion-MNIST, split: 50,000 images to pre-train on, the rest bundled for people to work with."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASS_NAMES = (
    "t-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
POOL, VALIDATION = 500, 200  # images per class
SEED = 0


@dataclass(frozen=True)
class Part:
    """Grey images (N, 32, 32) uint8, their labels (N,) and keys."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    keys: tuple[str, ...]

    def select(self, rows: NDArray) -> Part:
        return Part(self.images[rows], self.labels[rows], tuple(self.keys[i] for i in rows))


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


def pixel_hashes(images: NDArray[np.uint8]) -> list[int]:
    """The first 8 bytes of the SHA-256 of each image's pixels, as an integer."""
    return [int.from_bytes(hashlib.sha256(i.tobytes()).digest()[:8], "big") for i in images]


def write_bundle(parts: dict[str, Part], output: Path) -> None:
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
    """One of the two original parts, zero-padded from 28 to 32 pixels."""
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
