"""Sets that are arrays of pixels: CIFAR's pickles, STL-10's binaries, Fashion-MNIST's IDX files."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np

from tests.data.formats.written import Written, scene, write_lines

Rows = list[tuple[int, np.ndarray]]


def rows_of(classes: int, count: int, first: int, size: int, mode: str = "RGB") -> Rows:
    """Labels and pixels, the classes mixed; `count` images of each from number `first` on."""
    return [
        (label, np.asarray(scene(label, index, (size, size)).convert(mode)))
        for index in range(first, first + count)
        for label in range(classes)
    ]


def written(names: list[str], **splits: Rows) -> Written:
    return {
        split: {
            f"{split}/{row:05}": (
                names[label],
                np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels,
            )
            for row, (label, pixels) in enumerate(rows)
        }
        for split, rows in splits.items()
    }


def write_cifar10(root: Path, *, train: int, validation: int, test: int) -> Written:
    names = ["airplane", "automobile", "bird"]
    parts = {"train": rows_of(3, train, 0, 32), "test": rows_of(3, test, train, 32)}
    place = root / "cifar-10-batches-py"
    batches = {f"data_batch_{n + 1}": chunk for n, chunk in enumerate(_fifths(parts["train"]))}
    for name, rows in {**batches, "test_batch": parts["test"]}.items():
        _pickle(place / name, {"labels": [label for label, _ in rows], **_batch(name, rows)})
    meta = {"label_names": names, "num_cases_per_batch": 10000, "num_vis": 3072}
    _pickle(place / "batches.meta", meta)
    return written(names, **parts)


def write_cifar100(root: Path, *, train: int, validation: int, test: int) -> Written:
    names = ["apple", "aquarium_fish", "maple_tree", "pickup_truck"]
    coarse = ["fish", "fruit_and_vegetables", "trees", "vehicles_1"]
    parts = {"train": rows_of(4, train, 0, 32), "test": rows_of(4, test, train, 32)}
    place = root / "cifar-100-python"
    for name, rows in parts.items():
        labels = {
            "fine_labels": [label for label, _ in rows],
            "coarse_labels": [(1, 0, 2, 3)[label] for label, _ in rows],
        }
        _pickle(place / name, {**labels, **_batch(name, rows)})
    _pickle(place / "meta", {"fine_label_names": names, "coarse_label_names": coarse})
    return written(["apple", "aquarium fish", "maple tree", "pickup truck"], **parts)


def _fifths(rows: Rows) -> list[Rows]:
    size = -(-len(rows) // 5)
    return [rows[size * n : size * (n + 1)] for n in range(5)]


def _batch(name: str, rows: Rows) -> dict:
    planes = [pixels.transpose(2, 0, 1).reshape(-1) for _, pixels in rows]
    return {
        "batch_label": name,
        "data": np.array(planes, np.uint8).reshape(-1, 3072),
        "filenames": [f"{row:05}.png" for row in range(len(rows))],
    }


def _pickle(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_stl10(root: Path, *, train: int, validation: int, test: int) -> Written:
    names = ["airplane", "bird", "car"]
    parts = {"train": rows_of(3, train, 0, 96), "test": rows_of(3, test, train, 96)}
    place = root / "stl10_binary"
    write_lines(place / "class_names.txt", names)
    write_lines(place / "fold_indices.txt", ["0 1 2"] * 10)
    for split, rows in parts.items():
        # Planes, each column by column; the classes are counted from 1.
        images = np.stack([pixels.transpose(2, 1, 0) for _, pixels in rows])
        (place / f"{split}_X.bin").write_bytes(images.tobytes())
        (place / f"{split}_y.bin").write_bytes(bytes(label + 1 for label, _ in rows))
    (place / "unlabeled_X.bin").write_bytes(bytes(3 * 96 * 96))
    return written(names, **parts)


def write_fashion_mnist(
    root: Path,
    *,
    train: int,
    validation: int,
    test: int,
    place: str = "FashionMNIST/raw",
    packed: bool = False,
) -> Written:
    """`place` is the folder below `root`; `packed` writes `.gz` files, as they are served."""
    names = ["t-shirt", "trousers", "pullover", "dress", "coat"]
    names += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]
    parts = {"train": rows_of(10, train, 0, 28, "L"), "test": rows_of(10, test, train, 28, "L")}
    for split, rows in parts.items():
        part = {"train": "train", "test": "t10k"}[split]
        images = np.stack([pixels for _, pixels in rows])
        labels = np.array([label for label, _ in rows], np.uint8)
        for name, array in (
            (f"{part}-images-idx3-ubyte", images),
            (f"{part}-labels-idx1-ubyte", labels),
        ):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            path = root / place / (f"{name}.gz" if packed else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            data = head + array.tobytes()
            path.write_bytes(gzip.compress(data) if packed else data)
    return written(names, **parts)
