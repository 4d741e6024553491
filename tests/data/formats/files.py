"""Sets of image files that torchvision can list, a folder per class, and Stanford Cars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sgid.data.decode import decode
from tests.data.formats.written import Written, save, write_lines
from tests.data.writers import CAR_NAMES, write_cars


def write_flowers(root: Path, *, train: int, validation: int, test: int) -> Written:
    from scipy.io import savemat

    names = ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"]
    place = root / "flowers-102"
    written: Written = {"train": {}, "validation": {}, "test": {}}
    ids: dict[str, list[int]] = {split: [] for split in written}
    labels: list[int] = []
    counts = {"train": train, "validation": validation, "test": test}
    for index in range(sum(counts.values())):
        split = "test" if index < test else "train" if index < test + train else "validation"
        for label, name in enumerate(names):
            labels.append(label + 1)
            number = len(labels)
            ids[split].append(number)
            file = f"image_{number:05}.jpg"
            written[split][file] = (name, save(place / "jpg" / file, label, index))
    savemat(place / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    variables = {"trnid": "train", "valid": "validation", "tstid": "test"}
    lists = {name: np.array([ids[split]], np.uint16) for name, split in variables.items()}
    savemat(place / "setid.mat", lists)
    return written


def write_pets(root: Path, *, train: int, validation: int, test: int) -> Written:
    # Breed as files have it, name, and species, 1 for cats and 2 for dogs.
    breeds = [
        ("Abyssinian", "Abyssinian cat", 1),
        ("american_bulldog", "American Bulldog dog", 2),
        ("Siamese", "Siamese cat", 1),
    ]
    place = root / "oxford-iiit-pet"
    written: Written = {"train": {}, "test": {}}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for label, (breed, name, species) in enumerate(breeds):
        for index in range(train + test):
            split = "train" if index < train else "test"
            file = f"{breed}_{index + 1}"
            lines[split].append(f"{file} {label + 1} {species} {index + 1}")
            pixels = save(place / "images" / f"{file}.jpg", label, index)
            written[split][f"{file}.jpg"] = (name, pixels)
    write_lines(place / "annotations" / "trainval.txt", lines["train"])
    write_lines(place / "annotations" / "test.txt", lines["test"])
    head = ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids"]
    write_lines(place / "annotations" / "list.txt", head + lines["train"] + lines["test"])
    return written


def write_dtd(root: Path, *, train: int, validation: int, test: int) -> Written:
    """Returned is fold 1; in the others, train and test have changed places."""
    place = root / "dtd" / "dtd"
    written: Written = {"train": {}, "validation": {}, "test": {}}
    for label, name in enumerate(["banded", "polka-dotted", "zigzagged"]):
        for index in range(train + validation + test):
            known = index < train + validation
            split = "train" if index < train else "validation" if known else "test"
            key = f"{name}/{name}_{index + 1:04}.jpg"
            written[split][key] = (name, save(place / "images" / key, label, index))
    for fold in range(1, 11):
        parts = ("train", "validation", "test") if fold == 1 else ("test", "validation", "train")
        for part, split in zip(("train", "val", "test"), parts, strict=True):
            write_lines(place / "labels" / f"{part}{fold}.txt", list(written[split]))
    return written


def write_food(root: Path, *, train: int, validation: int, test: int) -> Written:
    place = root / "food-101"
    dishes = {"apple_pie": "apple pie", "baby_back_ribs": "baby back ribs", "pho": "pho"}
    written: Written = {"train": {}, "test": {}}
    meta: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, (folder, name) in enumerate(dishes.items()):
        for index in range(train + test):
            split = "train" if index < train else "test"
            key = f"{folder}/{1005649 + 7 * index}"
            meta[split].setdefault(folder, []).append(key)
            pixels = save(place / "images" / f"{key}.jpg", label, index)
            written[split][f"{key}.jpg"] = (name, pixels)
    for split, lists in meta.items():
        write_lines(
            place / "meta" / f"{split}.txt", [key for keys in lists.values() for key in keys]
        )
        (place / "meta" / f"{split}.json").write_text(json.dumps(lists))
    write_lines(place / "meta" / "classes.txt", list(dishes))
    write_lines(place / "meta" / "labels.txt", [name.capitalize() for name in dishes.values()])
    return written


def write_aircraft(root: Path, *, train: int, validation: int, test: int) -> Written:
    # Variant, family, manufacturer, and what the class is to be called.
    variants = [
        ("707-320", "Boeing 707", "Boeing", "Boeing 707-320"),
        ("ATR-42", "ATR-42", "ATR", "ATR-42"),
        ("DHC-6", "DHC-6", "de Havilland", "de Havilland DHC-6"),
        ("Gulfstream IV", "Gulfstream", "Gulfstream Aerospace", "Gulfstream IV"),
    ]
    place = root / "fgvc-aircraft-2013b" / "data"
    written: Written = {"train": {}, "validation": {}, "test": {}}
    lines: dict[tuple[str, str], list[str]] = {}
    for label, (variant, family, maker, name) in enumerate(variants):
        for index in range(train + validation + test):
            known = index < train + validation
            split = "train" if index < train else "validation" if known else "test"
            part = {"validation": "val"}.get(split, split)
            image = f"{34309 + 100 * label + index:07}"
            pixels = save(place / "images" / f"{image}.jpg", label, index, size=(48, 60))
            written[split][f"{image}.jpg"] = (name, pixels[:-20])  # less the photographer's name
            for level, value in (("variant", variant), ("family", family), ("manufacturer", maker)):
                for group in {part, "trainval" if known else part}:
                    lines.setdefault((level, group), []).append(f"{image} {value}")
    for (level, group), rows in lines.items():
        write_lines(place / f"images_{level}_{group}.txt", rows)
        write_lines(place / f"images_{group}.txt", [row.split()[0] for row in rows])
    for name, column in (("variants", 0), ("families", 1), ("manufacturers", 2)):
        write_lines(place / f"{name}.txt", sorted({row[column] for row in variants}))
    return written


def write_caltech101(root: Path, *, train: int, validation: int, test: int) -> Written:
    """All are in `train`, since the set has no split."""
    place = root / "caltech101" / "101_ObjectCategories"
    names = {"Faces_easy": "Faces close up", "accordion": "accordion", "wild_cat": "wild cat"}
    written: Written = {"train": {}}
    for label, (folder, name) in enumerate(names.items()):
        for index in range(train + test):
            key = f"{folder}/image_{index + 1:04}.jpg"
            written["train"][key] = (name, save(place / key, label, index))
    save(place / "BACKGROUND_Google" / "image_0001.jpg", 9, 0)
    (place / "BACKGROUND_Google" / "tmp").write_bytes(b"")  # it is in the original, too
    return written


def write_image_folder(root: Path, *, train: int, validation: int, test: int) -> Written:
    written: Written = {"train": {}, "validation": {}, "test": {}}
    for label, folder in enumerate(["cat", "dog", "wild_horse"]):
        name = folder.replace("_", " ")
        first = 0
        for split, part, count in (
            ("train", "train", train),
            ("validation", "val", validation),
            ("test", "test", test),
        ):
            for index in range(first, first + count):
                key = f"{part}/{folder}/{index:03}.jpg"
                written[split][key] = (name, save(root / key, label, index))
            first += count
    return {split: images for split, images in written.items() if images}


def write_cars_set(root: Path, *, train: int, validation: int, test: int) -> Written:
    write_cars(root, train=train, test=test, size=48)
    return {
        split: {
            f"{split}/{file.name}": (
                CAR_NAMES[(int(file.stem) - 1) % len(CAR_NAMES)],
                np.asarray(decode(file.read_bytes())),
            )
            for file in sorted((root / f"cars_{split}").iterdir())
        }
        for split in ("train", "test")
    }
