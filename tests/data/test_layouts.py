"""Folders as people bring them: a line each, and what is right."""

import csv
import io
from collections import Counter

import pytest

from sgid.data.classes import looks_like_code
from sgid.data.dataset import SplitProtocol, load_dataset
from sgid.data.decode import image_extensions
from sgid.data.sources.folder import folder, split_of
from tests.data.layouts import layout


@pytest.fixture(autouse=True)
def without_heic(monkeypatch):
    """As where `pillow-heif` is not installed."""
    extensions = image_extensions() - {".heic", ".heif", ".hif"}
    monkeypatch.setattr("sgid.data.sources.folder.image_extensions", lambda: extensions)


def load(root, *, source=None, strict=False, full_scale=None, max_bad=0.5, **protocol):
    splits = folder(str(root), **(source or {}))
    protocol = {"duplicates": "train", **protocol}
    return load_dataset(
        splits,
        SplitProtocol(**protocol),
        name="set",
        max_bad=max_bad,
        seed=0,
        cache=root.parent / "cache",
        strict=strict,
        full_scale=full_scale,
    )


def listed(splits) -> str:
    """`train cat*3 dog*3, test cat*1`, without what the source does not have."""
    parts = []
    for split, one in splits.present().items():
        counts = Counter(one.class_names[label] for label in one.labels)
        parts.append(
            f"{split} " + " ".join(f"{n.replace(' ', '_')}*{counts[n]}" for n in sorted(counts))
        )
    return ", ".join(parts)


UNDERSTOOD = {
    # splits by their usual names, in any case, with the usual additions
    "Training/cat*3 Training/dog*3 Testing/cat*1": "train cat*3 dog*3, test cat*1",
    "TRAIN/cat*1 TRAIN/dog*1 TEST/cat*1 TEST/dog*1": "train cat*1 dog*1, test cat*1 dog*1",
    "train_set/a1b*1 train_set/xyz*1 test_set/xyz*1": "train a1b*1 xyz*1, test xyz*1",
    "seg_train/sea*2 seg_train/ice*1 seg_test/sea*1": "train ice*1 sea*2, test sea*1",
    "trainset/sea*2 trainset/ice*1 validset/sea*1": "train ice*1 sea*2, validation sea*1",
    "Train_Images/sea*2 Train_Images/ice*1 Test_Images/ice*1": "train ice*1 sea*2, test ice*1",
    "train2017/sea*2 train2017/ice*1 val2017/ice*1": "train ice*1 sea*2, validation ice*1",
    "training/sea*2 training/ice*1 validation/ice*1 evaluation/sea*1": "train ice*1 sea*2, "
    "validation ice*1, test sea*1",
    "treino/sea*2 treino/ice*1 teste/ice*1": "train ice*1 sea*2, test ice*1",
    "训练集/sea*2 训练集/ice*1 测试集/ice*1": "train ice*1 sea*2, test ice*1",
    # each class with its own splits
    "sea/train*3 sea/test*1 ice/train*2 ice/test*1": "train ice*2 sea*3, test ice*1 sea*1",
    # classes, and not splits
    "bus*1 car*1 train*2": "train bus*1 car*1 train*2",
    "test*1 pilot*1": "train pilot*1 test*1",
    # not photographs of the set
    "cat*3 dog*3 @eaDir/cat*4 cat/@eaDir/x.png $RECYCLE.BIN/S-1-5/x*2": "train cat*3 dog*3",
    "train/cat*2 train/dog*2 __MACOSX/train/cat*2": "train cat*2 dog*2",
    "train/cat*2 train/dog*2 train/__MACOSX/cat*2 test/cat*1": "train cat*2 dog*2, test cat*1",
    "cat*1 dog*1 cat/x.png cat/x_mask.png cat/x_mask_1.png dog/y.png dog/y_thumb.jpg": "train "
    "cat*2 dog*2",
    "sick/images*2 sick/masks*2 well/images*3 well/masks*3": "train sick*2 well*3",
    # files without an extension that are images
    "cat*1 dog*1 dog/4711:jpeg dog/2024.0815:jpeg": "train cat*1 dog*3",
    # codes that say nothing of a class
    "003.Sooty_Albatross*1 004.Groove_Ani*1 notes/": "train Groove_Ani*1 Sooty_Albatross*1",
    "001.Sooty_Tern*1 002.Ani*1 003.Crow*1 stray*1": "train Ani*1 Crow*1 Sooty_Tern*1 stray*1",
    "0_healthy*1 1_rusty*1 2_mouldy*1": "train healthy*1 mouldy*1 rusty*1",
    "class_0-healthy*1 class_1-rusty*1": "train healthy*1 rusty*1",
    "n01440764*1 n01443537*1": "train goldfish*1 tench*1",
    "n02085620-Chihuahua*1 n02086240-Shih-Tzu*1": "train Chihuahua*1 Shih-Tzu*1",
    "n02012849*1 n03126707*1": "train crane_(large_long-necked_wading_bird_of_marshes_and_plains_in"
    "_many_parts_of_the_world)*1 crane_(lifts_and_moves_heavy_objects)*1",
    # numbers that do
    "2_door*1 4_door*1 5_door*1": "train 2_door*1 4_door*1 5_door*1",
    "1.FC_Koeln*1 1.FC_Union*1 Bayern*1": "train 1.FC_Koeln*1 1.FC_Union*1 Bayern*1",
    # names that differ between splits by case, `_` or the width of their letters
    "train/Cat*1 train/big_dog*1 test/cat*1 test/Big␣Dog*1": "train Cat*1 big_dog*1, "
    "test Cat*1 big_dog*1",
}


@pytest.mark.parametrize("line", UNDERSTOOD)
def test_what_is_understood(tmp_path, line):
    assert listed(folder(str(layout(tmp_path / "set", line)))) == UNDERSTOOD[line]


REFUSED = {
    # the classes are elsewhere: with the option that is right
    "big/set/cat*1 big/set/dog*1": "dataset.root={root}/big/set",
    "set/train/cat*1 set/train/dog*1 set/test/cat*1": "dataset.root={root}/set",
    "train/train/cat*1 train/train/dog*1 test/test/cat*1": "dataset.source.train=train/train "
    "dataset.source.test=test/test",
    "one/cat*1 one/dog*1 two/cat*1 two/dog*1": "dataset.root={root}/one",
    "a/train/cat*1 a/train/dog*1 b/train/cat*1 b/train/dog*1 a/test/cat*1 b/test/cat*1": "dataset."
    "root={root}/a",
    "train/cat*1 train/dog*1 test/1.png": "dataset.source.test=false",
    "images*3 masks*3": "not classes",
    "JPEGImages*2 SegmentationClass*2": "not classes",
    "1.png 2.png train.csv": "metadata.csv",
    "train\\cat\\0.png train\\dog\\0.png": "an archive that Windows made",
    "cat*2 dog/1.heic dog/2.heic": "pip install 'sgid[heic]'",
    # one class by two names
    "Cat*1 cat*1": "differ by case",
    "cafe\u0301*1 caf\u00e9*1": "the form of an accent",
    "red_car*1 red␣car*1": "both read as the class 'red car'",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_with_what_to_do(tmp_path, line):
    root = layout(tmp_path / "set", line)
    with pytest.raises(ValueError) as caught:
        folder(str(root))
    assert REFUSED[line].format(root=root) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "source", "right"),
    [
        (
            "train/train/cat*1 train/train/dog*1 test/test/cat*1",
            {"train": "train/train", "test": "test/test"},
            "train cat*1 dog*1, test cat*1",
        ),
        ("one/cat*1 one/dog*1 two/cat*1 two/dog*2", {"depth": 2}, "train cat*2 dog*3"),
        (
            "one/cat*1 one/dog*1 two/cat*1 two/dog*2",
            {"train": "two", "test": "one"},
            "train cat*1 dog*2, test cat*1 dog*1",
        ),
        ("cat/in*1 cat/out*1 dog/in*1 dog/out*1", {"depth": 1}, "train cat*2 dog*2"),
        (
            "beasts/cat*1 beasts/dog*1 cars/bus*1 cars/van*1",
            {"depth": 2},
            "train bus*1 cat*1 dog*1 van*1",
        ),
        ("train/cat*1 train/dog*1 test/1.png", {"test": False}, "train cat*1 dog*1"),
    ],
)
def test_the_options_that_messages_name(tmp_path, line, source, right):
    assert listed(folder(str(layout(tmp_path / "set", line)), **source)) == right


REMARKS = {
    "cat*5 dog*5 cow/1.heic cow/2.HEIC": [
        "left out: 2 .heic files (pip install 'sgid[heic]' lets them be read)",
        "no class, for want of images: cow (2 .heic files (pip install",
    ],
    "cat*5 dog*5 cow/": ["no class, for want of images: cow (0 files: the folder is empty)"],
    "cat*5 dog*5 dog/1.mp4 dog/.IMG_1.jpg.icloud": [
        "1 .mp4 files (videos: take frames",
        "1 .icloud files (not downloaded",
    ],
    "cat*5 dog*5 dog/x.bak:jpeg": ["1 .bak files (images by their bytes: rename them)"],
    "cat*5 dog*5 dog/4711": ["1 files without an extension that are no images"],
    "cat*5 dog*5 cat/@eaDir/x.png": ["1 files in @eaDir (thumbnails of a Synology)"],
    "cat*5 dog*5 cat/x.png cat/x_mask.png": ["1 masks of the images beside them"],
    "train/cat*5 train/dog*5 test/cat*2 test/dog*2 extra/cat*3": ["3 files in extra/, which is no"],
    "cat*5 dog*5 1.png": ["left out: 1 images beside the class folders"],
    "beasts/cat*3 beasts/dog*3 cars/bus*3 cars/van*3": ["dataset.source.depth=2 makes those below"],
    "7*5 12*5": ["2 class names look like codes, which say nothing in a prompt: 12, 7"],
    "n99999999*5 cat*5": [
        "1 class name looks like codes, which say nothing in a prompt: n99999999"
    ],
    "猫*5 犬*5": ["2 class names are in a script that most text encoders"],
    "train/Cat*5 train/dog*5 test/cat*2 test/dog*2": [
        "classes of test/ are read as those of train"
    ],
    "train/cat*5 train/dog*5 test/cat*3": ["test has no image of dog"],
    # of the images themselves
    "cat*5 dog*5 cat/x.tif:pages": ["1 images hold several pages, of which the first is used"],
    "cat*5 dog*5 dog/1.png:black": ["1 images are of one colour all over: dog (1 of 6)"],
    "cat*5 dog*5 dog/1.png:dot": ["1 images have a side of fewer than 8 pixels: dog (1 of 6)"],
    "cat*5 dog*5 dog/1.tif:4bands": ["1 images have a fourth band that is not said to be"],
    "cat*5 dog*5 dog/1.png:lfs": ["dog/1.png: not a readable image: a Git LFS pointer"],
    "cat*5 dog*5 dog/1.tif:5bands": ["not a readable image: a TIFF of 5 bands"],
    "cat*5 dog*5 dog/1.jpg:html": ["no known image format, but a web page"],
    "cat*5 dog*5 dog/1.png:12bit": [
        "1 of 11 images have more than 8 bits (whole numbers from 0 to "
        "4000, read as 12 bits: 0 is black, 4095 white)"
    ],
    "cat*5 dog*5 dog/1.tif:int32": ["whole numbers from 0 to 250, read as 8 bits"],
    "cat*5 dog*5 dog/1.tif:float255": ["floats from 0 to 240, read as 0 is black, 255 white"],
    "cat*5 dog*5 dog/1.tif:float": ["floats from 0 to 1, read as 0 is black, 1 white"],
    # equal images
    "train/cat*5 train/dog*5 test/cat*2 test/dog*2 test/dog/x.png=train/dog/00.png": [
        "1 images are in several splits, as train/dog/00.png = test/dog/x.png; 1 files are left "
        "out of train"
    ],
    "cat*5 dog*5 dog/x.png=cat/00.png": [
        "1 images are in several classes, as cat/00.png = dog/x.png"
    ],
    "cat*5 dog*5 dog/x.png=dog/00.png": ["1 training images are there several times"],
    # one origin on both sides of a split
    "a/patient1_1.png a/patient1_2.png a/patient2_1.png a/p.png b/patient3_1.png b/patient3_2.png "
    "b/patient4_1.png": ["several images are of one origin (2 of patient1)"],
    "a/x_jpg.rf.0a1b.jpg a/x_jpg.rf.77ff.jpg a/y_jpg.rf.01.jpg b/z_png.rf.aa.jpg b/z_png.rf.ab.jpg "
    "b/w_png.rf.ac.jpg": ["several images are of one origin (2 of "],
    # nothing to be remarked
    "cat*5 dog*5 README.md labels.csv cat/.DS_Store cat/Thumbs.db": [],
    "Training/cat*5 Training/dog*5 Testing/cat*2 Testing/dog*2": [],
}


@pytest.mark.parametrize("line", REMARKS)
def test_what_is_remarked_and_an_error_where_it_is_strict(tmp_path, line):
    root = layout(tmp_path / "set", line)
    remarks = load(root).protocol["remarks"]
    for part in REMARKS[line]:
        assert any(part in remark for remark in remarks), remarks
    if not REMARKS[line]:
        assert remarks == []
        load(root, strict=True)
    else:
        with pytest.raises(ValueError, match=r"dataset\.strict=true") as caught:
            load(root, strict=True)
        assert all(remark in str(caught.value) for remark in remarks)


@pytest.mark.parametrize(
    ("kind", "high"), [("12bit", 4000 / 4095), ("int32", 250 / 255), ("float255", 240 / 255)]
)
def test_more_than_eight_bits_have_one_scale_for_the_set(tmp_path, kind, high):
    line = " ".join(f"{name}/{index}.tif:{kind}" for name in "ab" for index in range(4))
    root = layout(tmp_path / "set", line)
    data = load(root, duplicates="keep")
    assert data.train[0].image.convert("L").getextrema() == (0, round(255 * high))
    own = load(root, duplicates="keep", full_scale=1000)
    white = min(255, round(255 * high * (4095 if kind == "12bit" else 255) / 1000))
    assert own.train[0].image.convert("L").getextrema() == (0, white)
    assert own.train.digest() != data.train.digest() and own.protocol["remarks"] != []


def test_duplicates_are_out_of_the_part_that_the_option_says(tmp_path):
    line = "train/a*4 train/b*4 test/a*2 test/b*2 val/a*2 val/b*2 test/b/x.png=train/b/00.png "
    root = layout(tmp_path / "set", line + "val/b/y.png=train/b/00.png test/a/z.png=test/b/01.png")
    sizes = {}
    for option in ("train", "test", "keep"):
        data = load(root, duplicates=option)
        sizes[option] = [len(part) for part in (data.train, data.validation, data.test)]
    assert sizes == {"train": [7, 4, 4], "test": [8, 4, 3], "keep": [8, 5, 6]}
    with pytest.raises(ValueError, match=r"dataset.duplicates=no must be one of train, test, keep"):
        load(root, duplicates="no")


def test_groups_are_held_out_together(tmp_path):
    names = [(f"{kind}/p{p:02}_{i}.png") for p in range(12) for i in range(3) for kind in "ab"]
    root = layout(tmp_path / "set", " ".join(names))
    data = load(root, group=r"(p\d+)_", test=0.25, validation=0.25)
    patients = [
        {key.split("/")[1][:3] for key in part.keys}
        for part in (data.train, data.validation, data.test)
    ]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 12
    assert 12 <= len(data.test) <= 24 and set(data.test.labels) == {0, 1}
    again = load(root, group=r"(p\d+)_", test=0.25, validation=0.25)
    assert again.test.digest() == data.test.digest()
    with pytest.raises(ValueError, match=r"dataset.group=\( is no regular expression"):
        load(root, group="(")
    with pytest.raises(ValueError, match="'a' has too few groups"):
        load(root, group="(p)")
    layout(root, "test/a/p00_9.png test/b/p99_1.png " + " ".join(f"train/{n}" for n in names))
    remarks = load(root, source={"train": "train", "test": "test"}, group=r"(p\d+)_").protocol
    assert "1 groups are in test as well as in train, as p00" in remarks["remarks"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = layout(tmp_path / "set", "cat*1 dog*1")
    iterdir = type(root).iterdir

    def refusing(path):
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(type(root), "iterdir", refusing)
    with pytest.raises(ValueError, match="dog cannot be read: Permission denied"):
        folder(str(root))


# -- the table of classes -------------------------------------------------------------------------


def write_csv(rows) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


YAML = """
7: golden retriever
008: {words: tabby, superclass: cat, description: A striped cat.}
no: {words: tabby, superclass: cat}
"""
CSV = write_csv(
    [
        ["class", "words", "superclass", "description"],
        ["7", "golden retriever", "", ""],
        ["008", "tabby", "cat", "A striped cat."],
        ["no", "tabby", "cat", ""],
    ]
)


@pytest.mark.parametrize(("name", "text"), [("t.yaml", YAML), ("t.csv", CSV)])
def test_words_from_a_table_and_two_folders_of_one_class(tmp_path, name, text):
    root = layout(tmp_path / "set", "7*5 008*3 no*4")
    (tmp_path / name).write_text(text, encoding="utf-8-sig" if name == "t.csv" else "utf-8")
    data = load(root, source={"classes": str(tmp_path / name)})
    assert data.phrases == ("golden retriever", "tabby cat")
    assert Counter(data.test.labels) == {0: 1, 1: 1} and data.protocol["remarks"] == []
    assert data.nouns == [None, "cat"]
    assert data.words["description"] == ("", "A striped cat.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("caat: tabby\n", "'caat' is no class of .*'cat' is one"),
        ("cat: {wrds: tabby}\n", "has wrds; known are words, superclass, description"),
        ("cat: [tabby]\n", "needs words"),
        ("- cat\n", "needed is a line"),
        ("cat:\ttabby\n\tx", "is no table of classes"),
        ("cat: dog\n", "'dog' is the name of another class"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, message):
    root = layout(tmp_path / "set", "cat*1 dog*1")
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        folder(str(root), classes=str(tmp_path / "t.yaml"))
    with pytest.raises(FileNotFoundError, match="dataset.classes=.* is not a file"):
        folder(str(root), classes=str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize("words", ["7", "c0", "class 3", "n01440764", "BCC", "3f2a91bc77", "E12"])
def test_codes(words):
    assert looks_like_code(words)


@pytest.mark.parametrize(
    "words", ["cat", "T-shirt", "CAT", "Boeing 707-320", "ox", "Égypte", "A380 jet"]
)
def test_words(words):
    assert not looks_like_code(words)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("trainImages", ("train", ())),
        ("My-Train-Data", ("train", ("my",))),
        ("Entraînement", ("train", ())),
        ("TestSet2", ("test", ("2",))),
        ("trainer", (None, ("trainer",))),
        ("contest", (None, ("contest",))),
    ],
)
def test_split_of(name, right):
    assert split_of(name) == right
