"""`dataset=hub` on files as other programs write them, and in folders of any name."""

import pandas as pd
import pytest

from sgid.data.decode import decode
from sgid.data.sources.huggingface import hub
from tests.data.formats.hub import rows_of, saved, write_hub_parquet
from tests.data.layouts import layout
from tests.data.writers import encoded, picture

pytestmark = pytest.mark.usefixtures("cache")


def test_a_folder_of_images_is_read_whole_whatever_its_files_are_called(tmp_path):
    """`datasets` takes train_1.png for an image of a split, and leaves out those of none."""
    names = [f"{kind}/{word}_{i}.png" for kind in "ab" for word in ("train", "x") for i in range(3)]
    root = layout(tmp_path / "set", " ".join(names))
    assert len(hub(str(root)).train.keys) == 12
    with pytest.raises(ValueError, match=r"dataset.source.label=x: .* which have no columns"):
        hub(str(root), label="x")


@pytest.mark.parametrize("name", ["set[1]", "a*b", "what?"])
def test_a_path_is_no_pattern(tmp_path, name):
    write_hub_parquet(tmp_path / name, train=3, validation=1, test=2)
    splits = hub(str(tmp_path / name))
    assert [len(one.keys) for one in splits.present().values()] == [9, 3, 6]
    assert len(hub(str(tmp_path / name / "data" / "test-00000-of-00001.parquet")).train.keys) == 6
    root = layout(tmp_path / "images" / name, "a/1.png a/2.png b/3.png")
    rows = "".join(f"{key},{key[0]}\n" for key in ("a/1.png", "a/2.png", "b/3.png"))
    (root / "metadata.csv").write_text(f"\ufefffile_name,label\n{rows}", encoding="utf-8")
    train = hub(str(root)).train
    assert train.labels == (0, 0, 1) and decode(train.read(2)).size == (16, 16)


def test_rows_that_are_not_loaded_are_an_error(tmp_path):
    write_hub_parquet(tmp_path / "set", train=3, validation=1, test=2)
    data = tmp_path / "set" / "data"
    (data / "validation-00000-of-00001.parquet").rename(data / "more.parquet")
    with pytest.raises(ValueError, match="of 18 images in .* only 15 were loaded"):
        hub(str(tmp_path / "set"))


def test_nothing_that_can_be_loaded(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.xyz").write_text("x")
    with pytest.raises(ValueError, match="holds neither Parquet files nor images"):
        hub(str(tmp_path / "set"))


IMAGES = [encoded(picture(0, index)) for index in range(4)]


@pytest.mark.parametrize("struct", [False, True])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0.0, 1.0, 1.0, 2.0], ("0", "1", "2")),
        ([False, True, True, False], ("False", "True")),
        (["cat", "dog", "dog", "cat"], ("cat", "dog")),
        (pd.Categorical(["cat", "dog", "dog", "cat"]), ("cat", "dog")),
    ],
)
def test_parquet_as_pandas_writes_it(tmp_path, struct, labels, names):
    cells = [{"bytes": data, "path": "x.png"} for data in IMAGES] if struct else IMAGES
    frame = pd.DataFrame({"picture": cells, "label": labels, "note": ["a", "b", "c", "d"]})
    frame.to_parquet(tmp_path / "set.parquet")
    train = hub(str(tmp_path / "set.parquet")).train
    assert train.class_names == names
    assert [train.class_names[label] for label in train.labels] == [
        str(int(one)) if isinstance(one, float) else str(one) for one in labels
    ]
    assert [train.read(row) for row in range(4)] == IMAGES


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1.0, 1.0, 2.0], r"column label holds fractions \(0.5\)"),
        ([0.0, None, 1.0, 2.0], "1 of 4 images have no label"),
        ([[0], [0, 1], [1], [1]], "column label holds several labels an image"),
        (["cat", "Cat ", "dog", "dog"], "'Cat ' and 'cat' differ by case"),
        (["cat", "cat.", "dog", "dog"], "'cat' and 'cat.' differ by case or a stop"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, labels, message):
    pd.DataFrame({"image": IMAGES, "label": labels}).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(ValueError, match=message):
        hub(str(tmp_path / "set.parquet"))


def test_classes_without_an_image_and_words_from_a_table(tmp_path, kinds):
    from datasets import ClassLabel

    names = ["n01443537", "unused", "7"]
    features = {"image": kinds["image"], "label": ClassLabel(names=names)}
    id = saved(tmp_path / "set", rows_of([2, 0, 2]), features)
    splits = hub(id)
    assert splits.train.class_names == ("goldfish", "7") and splits.train.labels == (1, 0, 1)
    assert "left out: classes without an image: unused" in splits.remarks
    (tmp_path / "t.yaml").write_text("7: tabby\n")
    assert hub(id, classes=str(tmp_path / "t.yaml")).train.class_names == ("goldfish", "tabby")
