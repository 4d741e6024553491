"""Small data sets written to disk in the forms that users have them in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def picture(label: int, index: int, size: int = 16) -> Image.Image:
    """An RGB picture that no other (label, index) has; its mean colour tells the label."""
    rng = np.random.default_rng([label, index])
    colour = np.random.default_rng(label).integers(60, 196, 3)
    noise = rng.integers(-50, 50, (size, size, 3))
    return Image.fromarray((colour + noise).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write_folder(root: Path, counts: Mapping[str, int], *, first: int = 0, size: int = 16) -> Path:
    """`root/<class>/00.png`, as many per class as `counts` says, numbered from `first` on."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            picture(label, index, size).save(root / name / f"{index:02}.png")
    return root


CAR_NAMES = (
    "AM General Hummer SUV 2000",
    "Acura Integra Type R 2001",
    "Ram C/V Cargo Van Minivan 2012",
)


def write_cars(
    root: Path, *, train: int = 4, test: int = 3, names: tuple[str, ...] = CAR_NAMES, size: int = 16
) -> Path:
    """Stanford Cars' own layout, `train` and `test` images per class."""
    from scipy.io import savemat

    (root / "devkit").mkdir(parents=True)
    cell = np.empty((1, len(names)), dtype=object)
    cell[0, :] = names
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": cell})
    fields = [*("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class"), "fname"]
    for split, count, file in (
        ("train", train, root / "devkit" / "cars_train_annos.mat"),
        ("test", test, root / "cars_test_annos_withlabels.mat"),
    ):
        folder = root / f"cars_{split}"
        folder.mkdir()
        # The real files mix the classes: the number of a file says nothing of its class.
        rows = [(label, index) for index in range(count) for label in range(len(names))]
        annotations = np.empty((1, len(rows)), dtype=[(field, "O") for field in fields])
        for number, (label, index) in enumerate(rows):
            name = f"{number + 1:05}.jpg"
            picture(label, index + (0 if split == "train" else train), size).save(folder / name)
            box = [np.array([[edge]], dtype=np.uint16) for edge in (1, 1, size, size)]
            number_of_class = np.array([[label + 1]], dtype=np.uint8)
            annotations[0, number] = (*box, number_of_class, name)
        savemat(file, {"annotations": annotations})
    return root


def write_parquet(folder: Path, counts: Mapping[str, int], class_names: list[str]) -> Path:
    """`folder/<split>.parquet`, `counts[split]` grey images per class, as `datasets` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Value
    from datasets import Image as ImageFeature

    features = Features(
        {"image": ImageFeature(), "label": ClassLabel(names=class_names), "key": Value("string")}
    )
    folder.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(counts.items()):
        rows = [
            {
                "image": {
                    "bytes": encoded(picture(label, 1000 * number + index, 8).convert("L")),
                    "path": None,
                },
                "label": label,
                "key": f"{split}/{label}/{index}",
            }
            for label in range(len(class_names))
            for index in range(count)
        ]
        table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
        pq.write_table(table, folder / f"{split}.parquet")
    return folder
