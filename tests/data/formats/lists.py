"""CUB-200-2011 and Tiny-ImageNet: image files and lists of their own form."""

from __future__ import annotations

from pathlib import Path

from tests.data.formats.written import Written, save, write_lines


def write_cub(root: Path, *, train: int, validation: int, test: int) -> Written:
    place = root / "CUB_200_2011"
    birds = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
    written: Written = {"train": {}, "test": {}}
    images, labels, split_of = [], [], []
    for label, bird in enumerate(birds):
        stem = bird.partition(".")[2]
        for index in range(train + test):
            # The real split is mixed: the order of the images says nothing of it.
            split = "test" if index % 2 and index // 2 < test else "train"
            if index - min(test, index // 2) >= train:
                split = "test"
            key = f"{bird}/{stem}_{index + 1:04}_{index + 18}.jpg"
            number = len(images) + 1
            images.append(f"{number} {key}")
            labels.append(f"{number} {label + 1}")
            split_of.append(f"{number} {int(split == 'train')}")
            pixels = save(place / "images" / key, label, index)
            written[split][key] = (stem.replace("_", " "), pixels)
    write_lines(place / "images.txt", images)
    write_lines(place / "image_class_labels.txt", labels)
    write_lines(place / "train_test_split.txt", split_of)
    write_lines(place / "classes.txt", [f"{n + 1} {bird}" for n, bird in enumerate(birds)])
    return written


def write_tiny_imagenet(root: Path, *, train: int, validation: int, test: int) -> Written:
    place = root / "tiny-imagenet-200"
    # Two classes share their first synonym, as cranes do in WordNet.
    synonyms = {
        "n03444034": ("go-kart", "go-kart"),
        "n01443537": ("goldfish, Carassius auratus", "goldfish"),
        "n02012849": ("crane", "crane"),
        "n03126707": ("crane, hoist", "crane (hoist)"),
    }
    written: Written = {"train": {}, "test": {}}
    annotations = []
    for label, (wnid, (_, name)) in enumerate(synonyms.items()):
        boxes = []
        for index in range(train):
            file = f"{wnid}_{index}.JPEG"
            boxes.append(f"{file}\t0\t10\t63\t58")
            key = f"train/{wnid}/images/{file}"
            written["train"][key] = (name, save(place / key, label, index))
        write_lines(place / "train" / wnid / f"{wnid}_boxes.txt", boxes)
        for index in range(train, train + test):
            key = f"val/images/val_{len(annotations)}.JPEG"
            annotations.append(f"{Path(key).name}\t{wnid}\t0\t32\t44\t62")
            written["test"][key] = (name, save(place / key, label, index))
    write_lines(place / "val" / "val_annotations.txt", annotations)
    save(place / "test" / "images" / "test_0.JPEG", 0, 999)
    write_lines(place / "wnids.txt", list(synonyms))
    # The list names all of WordNet, not the classes of the set only.
    rows = {"n00001740": ("entity", ""), **synonyms}
    write_lines(place / "words.txt", [f"{wnid}\t{words}" for wnid, (words, _) in rows.items()])
    return written
