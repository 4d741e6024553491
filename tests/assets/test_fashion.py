"""The bundled images: complete, balanced, small, and disjoint from what the models saw."""

import hashlib
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image
from pyarrow.parquet import read_table

import sgid

FASHION = Path(sgid.__file__).parent / "assets" / "fashion"
SIZES = {"train": 5_000, "validation": 2_000, "test": 10_000}
CLASS_NAMES = [
    "t-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts as `datasets` reads them: images decode without a further word."""
    return load_dataset(
        "parquet",
        data_files={name: str(FASHION / f"{name}.parquet") for name in SIZES},
        cache_dir=str(tmp_path_factory.mktemp("datasets")),
    )


@pytest.fixture(scope="module")
def hashes() -> dict[str, list[int]]:
    """First 8 bytes of the SHA-256 of each image's grey 32×32 pixels."""

    def hashed(image: dict[str, bytes]) -> int:
        pixels = Image.open(BytesIO(image["bytes"])).convert("L").tobytes()
        return int.from_bytes(hashlib.sha256(pixels).digest()[:8], "big")

    tables = {name: read_table(FASHION / f"{name}.parquet", columns=["image"]) for name in SIZES}
    return {name: list(map(hashed, table["image"].to_pylist())) for name, table in tables.items()}


@pytest.mark.parametrize("name", SIZES)
def test_every_class_has_its_share(parts, name):
    part = parts[name]
    assert part.features["label"].names == CLASS_NAMES
    assert len(part) == SIZES[name]
    assert set(Counter(part["label"]).values()) == {SIZES[name] // len(CLASS_NAMES)}


@pytest.mark.parametrize("name", SIZES)
def test_images_are_grey_and_32_pixels(parts, name):
    for image in parts[name].select(range(0, SIZES[name], 500))["image"]:
        pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape == (32, 32, 3)
        assert (pixels == pixels[..., :1]).all()
        assert pixels[[0, 1, -2, -1]].max() == 0 == pixels[:, [0, 1, -2, -1]].max()


def test_keys_are_unique_over_all_parts(parts):
    keys = [key for part in parts.values() for key in part["key"]]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("test-") for key in parts["test"]["key"])


def test_no_image_is_in_two_parts(hashes):
    counts = Counter(value for values in hashes.values() for value in set(values))
    assert max(counts.values()) == 1


def test_the_models_saw_no_bundled_image(hashes):
    seen = np.load(FASHION / "pretraining_hashes.npy", allow_pickle=False)
    assert len(np.unique(seen)) == len(seen) == 50_000
    for name, values in hashes.items():
        assert not np.isin(np.array(values, dtype=np.uint64), seen).any(), name


def test_the_folder_is_small_and_says_what_it_is():
    files = [file for file in FASHION.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 10 * 1024**2
    assert "MIT" in (FASHION / "LICENSE").read_text()
    assert "pretraining_hashes.npy" in (FASHION / "README.md").read_text()
