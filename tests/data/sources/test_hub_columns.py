"""Columns of a hub set that hold the images and the classes, and the names of the classes."""

import pytest

from sgid.data.sources.huggingface import hub
from tests.data.formats.hub import rows_of, saved
from tests.data.writers import encoded, picture

pytestmark = pytest.mark.usefixtures("cache")


def test_several_columns_of_classes(tmp_path, kinds):
    rows = rows_of([0, 1], coarse=[1, 0])
    features = {"image": kinds["image"], "label": kinds["class"], "coarse": kinds["class"]}
    id = saved(tmp_path / "set", rows, features)
    with pytest.raises(ValueError) as caught:
        hub(id)
    assert "2 columns could be meant" in str(caught.value)
    assert "dataset.source.label=" in str(caught.value)
    assert "image (Image), label (ClassLabel), coarse (ClassLabel)" in str(caught.value)
    assert hub(id, label="coarse").train.labels == (1, 0)
    with pytest.raises(ValueError, match="dataset.source.label=image is no column that"):
        hub(id, label="image")


def test_several_columns_of_images(tmp_path, kinds):
    rows = rows_of([0, 1])
    for row, cell in enumerate(rows):
        cell["mask"] = {"bytes": encoded(picture(5, row)), "path": None}
    features = {"image": kinds["image"], "mask": kinds["image"], "label": kinds["class"]}
    id = saved(tmp_path / "set", rows, features)
    with pytest.raises(ValueError, match="dataset.source.image="):
        hub(id)
    assert hub(id, image="mask").train.read(1) == rows[1]["mask"]["bytes"]


@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [("text", ["red_car", "bike", "red_car"], ("bike", "red car")), ("int", [7, 3, 7], ("3", "7"))],
)
def test_labels_that_are_values(tmp_path, kinds, kind, labels, names):
    rows = rows_of(labels, image_id=[1, 2, 3])
    features = {"image": kinds["image"], "label": kinds[kind], "image_id": kinds["int"]}
    splits = hub(saved(tmp_path / "set", rows, features))
    assert splits.train.class_names == names and splits.train.labels == (1, 0, 1)
    assert any("like codes" in remark for remark in splits.remarks) is (kind == "int")


def test_nothing_that_could_be_a_label(tmp_path, kinds):
    rows = [{"image": row["image"]} for row in rows_of([0, 1])]
    id = saved(tmp_path / "set", rows, {"image": kinds["image"]})
    with pytest.raises(ValueError, match="no column holds classes"):
        hub(id)


def test_splits_that_number_their_classes_differently_are_refused(tmp_path):
    """As `class_encode_column` does to each split of a set by itself."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

    def part(names, labels):
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        return Dataset.from_list(rows_of(labels), features=features)

    parts = {"train": part(["ant", "bee", "cat"], [0, 1, 2]), "test": part(["bee", "cat"], [0, 1])}
    DatasetDict(parts).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match="numbers its classes in another way than the train"):
        hub(str(tmp_path / "set"))
    parts["test"] = part(["ant", "bee", "cat"], [1, 2])
    DatasetDict(parts).save_to_disk(tmp_path / "right")
    test = hub(str(tmp_path / "right")).test
    assert test is not None and test.labels == (1, 2)
