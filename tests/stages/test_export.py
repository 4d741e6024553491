"""A store taken elsewhere: the readers of others open each form, and find what it should hold."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.console import Console

from sgid.config.compose import CONF, compose
from sgid.data.decode import decode
from sgid.models.weights import LICENCES
from sgid.stages import export as stage
from sgid.stages.run import prepare
from sgid.store.reviews import Review, append_reviews
from sgid.store.tables import open_generated
from tests.data.writers import encoded, picture, write_folder
from tests.end_to_end.command import SHORT, Place

COUNTS = {"train": 12, "validation": 2, "test": 4}  # of 2 × 9 originals


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Place, tuple[str, ...]]:
    """A store of the images of a folder of 40 px, and the options of its run."""
    place = Place(tmp_path_factory.mktemp("export"))
    root = write_folder(place.top / "images", {"ankle boot": 9, "T.shirt": 9}, size=40)
    grey = encoded(picture(1, 3, 40).convert("L"), "JPEG")  # which is no RGB
    (root / "T.shirt" / "03.png").write_bytes(grey)
    options = (
        "dataset=folder", f"dataset.root={root}", "models=tiny", "backbone=small_resnet", *SHORT,
        "expansion=2", "store.shard_size=7",
    )  # fmt: skip
    place.run(*options, "aug=sgid", "stage=augment").good()
    return place, options


@pytest.fixture(scope="module")
def store(made):
    (folder,) = (made[0].artifacts / "generated").iterdir()
    return open_generated(folder, option="store")


@pytest.fixture
def own_store(store, tmp_path):
    """A copy, to review."""
    shutil.copytree(store.parent.parent, tmp_path / "artifacts")
    folder = tmp_path / "artifacts" / "generated" / store.folder.name
    return open_generated(folder, option="store")


@pytest.fixture(scope="module")
def dataset(made):
    """The images of the run."""
    place, options = made
    return prepare(compose([*options, f"paths.artifacts={place.artifacts}"]), {}, []).dataset


@pytest.fixture(scope="module")
def export(dataset) -> Callable[..., str]:
    """`export(store, to, format="yolo")`, as the stage does it; what it prints."""

    def run(store, to: Path, **options: Any) -> str:
        given = {"format": "imagefolder", "originals": False, "size": "generator", "licence": None}
        console = Console(file=io.StringIO(), width=500)
        stage.export(store, dataset, to, console, **given | options)
        return console.file.getvalue()

    return run


@pytest.fixture(scope="module")
def exports(store, export, tmp_path_factory) -> dict[str, Path]:
    """With originals, in every form."""
    top = tmp_path_factory.mktemp("exports")
    for form in ("imagefolder", "webdataset", "datasets", "yolo"):
        said = export(store, top / form, format=form, originals=True)
        assert "24 generated images and 18 originals" in said
    return {folder.name: folder for folder in top.iterdir()}


def rows(store) -> dict[tuple[str, int], dict]:
    return {(row["key"], row["repeat"]): row for row in store.read().to_pylist()}


def load(folder: Path, tmp_path: Path):
    from datasets import load_dataset

    return load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def holds_the_store(split, store) -> None:
    """Pixels, seeds and all that steered each generated image of a split of `datasets`."""
    expected = rows(store)
    drawn = [row for row in split if row["synthetic"]]
    assert len(drawn) == len(expected) == 24
    for row in drawn:
        its = expected[row["original"], row["repeat"]]
        assert row["image"].tobytes() == decode(its["image"]["bytes"]).tobytes()
        for name in ("class_name", "prompt", "caption", "seed", "method", "strength"):
            assert row[name] == its[name]
        assert row["similarity"] == pytest.approx(its["similarity"])
        assert row["guidance_scale"] == pytest.approx(its["guidance_scale"])
        assert json.loads(row["label_weights"]) == {its["class_name"]: 1.0}


def test_class_folders_open_in_datasets(exports, store, tmp_path):
    sets = load(exports["imagefolder"], tmp_path)
    holds_the_store(sets["train"], store)
    counts = {name: sum(not row["synthetic"] for row in split) for name, split in sets.items()}
    assert counts == COUNTS
    assert {row["prompt"] for row in sets["test"]} == {"-"}


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ({"id": "a/b", "revision": "c"}, "a/b at c"),
        ({"id": "a/b", "revision": "c", "variant": "fp16"}, "a/b at c, fp16"),
        ({"checkpoint": "ab", "configs": "cd"}, "a local checkpoint in one file, SHA-256 ab"),
        ({"content": "ab"}, "a local diffusers model, content ab"),
    ],
)
def test_weights_have_a_name_in_the_card(weights, name):
    assert stage._name({"layout": "diffusers", **weights}) == name


def test_parquet_opens_in_datasets_with_named_labels(exports, store, tmp_path):
    sets = load(exports["datasets"], tmp_path)
    holds_the_store(sets["train"], store)
    assert {name: len(split) for name, split in sets.items()} == COUNTS | {"train": 36}
    for split in sets.values():
        names = split.features["label"].names
        assert all(names[row["label"]] == row["class_name"] for row in split)
    assert {row["prompt"] for row in sets["test"]} == {None}


def test_tar_shards_open_in_webdataset(exports, store):
    import webdataset

    expected = rows(store)
    paths = sorted(map(str, exports["webdataset"].glob("train-*.tar")))
    assert len(paths) == 6  # 36 images, 7 in each
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pil"))
    assert len(samples) == 36 == len({sample["__key__"] for sample in samples})
    for sample in samples:
        about = sample["json"]
        assert sample["cls"] == about["label"]
        if about["synthetic"]:
            its = expected.pop((about["original"], about["repeat"]))
            assert sample["png"].tobytes() == decode(its["image"]["bytes"]).tobytes()
            assert sample["cls"] == its["label"] and about["seed"] == its["seed"]
    assert not expected


@pytest.mark.parametrize("form", ["imagefolder", "yolo"])
@pytest.mark.parametrize("split", COUNTS)
def test_readers_of_folders_find_the_classes(exports, form, split):
    """Those of timm, and of torchvision, which Ultralytics' classification builds on."""
    from timm.data import create_dataset
    from torchvision.datasets import ImageFolder

    timm = create_dataset("", root=str(exports[form]), split=split)
    folder = {"validation": "val"}.get(split, split)
    torchvision = ImageFolder(str(exports[form] / folder))
    count = COUNTS[split] + 24 * (split == "train")
    assert len(timm) == len(torchvision) == count
    for classes, samples in (
        (timm.reader.class_to_idx, timm.reader.samples),
        (torchvision.class_to_idx, torchvision.samples),
    ):  # they number them each in their own way
        found = Counter(label for _, label in samples)
        assert found == {classes["ankle boot"]: count / 2, classes["T.shirt"]: count / 2}


def test_originals_stay_as_they_are_where_every_program_reads_them_alike(exports, made):
    root = made[0].top / "images"
    with (exports["yolo"] / "metadata.csv").open() as stream:
        about = [row for row in csv.DictReader(stream) if row["synthetic"] == "False"]
    assert len(about) == 18
    for row in about:
        before, after = root / row["original"], exports["yolo"] / row["file_name"]
        if row["original"] == "T.shirt/03.png":
            grey = Image.open(before).convert("RGB")
            assert Image.open(after).mode == "RGB" and after.suffix == ".png"
            assert Image.open(after).tobytes() == grey.tobytes()
        else:
            assert after.read_bytes() == before.read_bytes()


def test_the_card_says_what_it_is(exports, store):
    for folder in exports.values():
        _, head, text = (folder / "README.md").read_text().split("---\n", 2)
        said = yaml.safe_load(head)
        assert "synthetic" in said["tags"] and said["license"] == "other"
        assert [one["split"] for one in said["configs"][0]["data_files"]] == list(COUNTS)
        assert "24 of 42 images were drawn by a diffusion model" in text
        assert "| train | 24 | 12 |" in text and "| ankle boot | 12 | 6 |" in text
        assert text.count("| MIT |") == 3  # the bundled models
        assert "folder) | unknown: ask" in text and store.folder.name in text
        assert json.loads((folder / "export.json").read_text())["finished"] is True


def test_the_command_needs_the_data_for_originals_and_filters_alone(made, own_store, tmp_path):
    (place, options), store = made, own_store
    to = tmp_path / "out"
    words = ("stage=export", f"store={store.folder}", f"export.to={to}", "export.format=datasets")
    place.run(*words).good()
    (split,) = load(to, tmp_path).values()
    holds_the_store(split, store)
    assert "not named in the export" in (to / "README.md").read_text()
    failed = place.run(*words, "export.originals=true")
    assert failed.code == 1
    assert "these are not the 100 training images of fashion: add the options" in failed.err
    band = (*options, *words, "filter=band", "filter.min=-1")
    place.run(*band, f"export.to={tmp_path / 'all'}", "filter.max=1").good()
    (split,) = load(tmp_path / "all", tmp_path).values()
    assert len(split) == 24 and set(split["nearest_class"]) <= {"ankle boot", "T.shirt"}
    most = sum(sorted(split["cosine"])[9:11]) / 2  # of ten
    done = place.run(*band, f"export.to={tmp_path / 'few'}", f"filter.max={most}").good()
    (split,) = load(tmp_path / "few", tmp_path).values()
    assert len(split) == 10 and "; 14 dropped by the filter are left out" in done.out
    assert max(split["cosine"]) < most


def test_rejected_images_stay_out_and_another_folder_is_asked_for(export, own_store, tmp_path):
    keys = list(rows(own_store))
    say = [Review(*keys[0], "reject", "ada", ""), Review(*keys[1], "accept", "ada", "")]
    export(own_store, tmp_path / "out")
    append_reviews(own_store.folder, [*say, Review(*keys[2], "reject", "ada", "")])
    append_reviews(own_store.folder, [Review(*keys[2], None, "ada", "")])  # taken back
    with pytest.raises(ValueError, match=r"holds another export \(images differ"):
        export(own_store, tmp_path / "out")
    said = export(own_store, tmp_path / "new")
    assert "23 generated images" in said and "1 rejected by people are left out" in said
    with (tmp_path / "new" / "train" / "metadata.csv").open() as stream:
        told = {(row["original"], int(row["repeat"])): row for row in csv.DictReader(stream)}
    assert set(told) == set(keys[1:])
    assert told[keys[1]]["accepted"] == "yes" and told[keys[2]]["accepted"] == "-"
    assert len(list((tmp_path / "new" / "train").rglob("*.png"))) == 23
    append_reviews(own_store.folder, [Review(*key, "reject", "ada", "") for key in keys])
    with pytest.raises(ValueError, match="none is left; 24 rejected by people"):
        export(own_store, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", ["imagefolder", "webdataset"])
def test_a_stopped_export_goes_on_and_ends_with_the_same_files(
    export, store, exports, tmp_path, monkeypatch, form
):
    options = {"format": form, "originals": True}
    replace, left = os.replace, [4]  # its record, and three files

    def stop(source, target):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    to = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", stop)
        export(store, to, **options)
    before = {path: path.stat() for path in to.rglob("*") if path.suffix in (".png", ".tar")}
    assert len(before) == 3
    export(store, to, **options)
    assert all(path.stat().st_mtime_ns == was.st_mtime_ns for path, was in before.items())
    names = sorted(path.relative_to(to) for path in to.rglob("*") if path.is_file())
    whole = exports[form]
    assert names == sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(whole, to, names, shallow=False)[1:] == ([], [])


def test_a_damaged_image_is_written_again_and_nothing_else(export, store, tmp_path):
    to = tmp_path / "out"
    export(store, to)
    first, *_ = sorted(to.rglob("*.png"))
    whole = first.read_bytes()
    first.write_bytes(whole[:50])
    assert "1 files of them written now" in export(store, to)
    assert first.read_bytes() == whole


def test_nothing_is_mixed_with_other_files(export, store, tmp_path):
    to = tmp_path / "out"
    to.mkdir()
    (to / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has other files \(notes.txt\)"):
        export(store, to)
    assert [one.name for one in to.iterdir()] == ["notes.txt"]
    export(store, tmp_path / "good")
    Image.new("RGB", (9, 9)).save(tmp_path / "good" / "train" / "T.shirt" / "mine.png")
    with pytest.raises(ValueError, match=r"has other files \(train/T.shirt/mine.png\)"):
        export(store, tmp_path / "good")
    with pytest.raises(ValueError, match="is a file: give a folder"):
        export(store, to / "notes.txt")


def test_what_is_no_finished_store_is_refused(store, own_store, tmp_path):
    with pytest.raises(FileNotFoundError, match="store=nowhere is not a folder"):
        open_generated(Path("nowhere"), option="store")
    with pytest.raises(ValueError, match=f"take one of the stores in it, {store.folder.name}"):
        open_generated(store.folder.parent, option="store")
    described = store.folder.parent.parent / "described" / store.spec["described"]
    with pytest.raises(ValueError, match="is a store of described"):
        open_generated(described, option="store")
    own_store.manifest.unlink()
    with pytest.raises(ValueError, match="is a store that is not finished"):
        open_generated(own_store.folder, option="store")


def test_images_of_the_size_of_their_originals(export, store, tmp_path):
    export(store, tmp_path / "out", size="original")
    sizes = {Image.open(path).size for path in (tmp_path / "out").rglob("*.png")}
    assert sizes == {(40, 40)}
    assert {(row["width"], row["height"]) for row in rows(store).values()} == {(32, 32)}


@pytest.mark.parametrize(
    "file", sorted((CONF / "models").glob("*.yaml")), ids=lambda file: file.stem
)
def test_the_licences_of_all_models_are_known(file):
    def ids(tree):
        if isinstance(tree, dict):
            yield from (value for key, value in tree.items() if key == "id" and value)
            for value in tree.values():
                yield from ids(value)

    assert set(ids(yaml.safe_load(file.read_text()))) <= set(LICENCES)
