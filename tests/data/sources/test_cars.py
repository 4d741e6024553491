import pytest

from sgid.data.decode import decode
from sgid.data.sources.cars import cars
from tests.data.writers import CAR_NAMES, write_cars


def test_its_own_layout(tmp_path):
    splits = cars(str(write_cars(tmp_path / "cars", train=4, test=3)))
    assert splits.validation is None and splits.test is not None
    assert splits.train.class_names == CAR_NAMES
    assert len(splits.train.keys) == 12 and len(splits.test.keys) == 9
    assert splits.train.keys[:2] == ("train/00001.jpg", "train/00002.jpg")
    assert splits.train.labels == (0, 1, 2) * 4
    assert all(type(label) is int for label in splits.train.labels)
    assert decode(splits.test.read(8)).size == (16, 16)
    assert splits.test.read(8) == (tmp_path / "cars" / "cars_test" / "00009.jpg").read_bytes()


def test_a_folder_deeper_as_torchvision_has_it(tmp_path):
    write_cars(tmp_path / "stanford_cars")
    assert len(cars(str(tmp_path)).train.keys) == 12


def test_the_layout_of_the_kaggle_archive(tmp_path):
    write_cars(tmp_path)
    for split in ("train", "test"):
        (tmp_path / f"cars_{split}").rename(tmp_path / "images")
        (tmp_path / f"cars_{split}").mkdir()
        (tmp_path / "images").rename(tmp_path / f"cars_{split}" / f"cars_{split}")
    labels = tmp_path / "cars_test_annos_withlabels.mat"
    labels.rename(tmp_path / "devkit" / labels.name)
    (tmp_path / "car_devkit").mkdir()
    (tmp_path / "devkit").rename(tmp_path / "car_devkit" / "devkit")
    assert len(cars(str(tmp_path)).train.keys) == 12


@pytest.mark.parametrize(
    "missing",
    [
        "devkit/cars_meta.mat",
        "devkit/cars_train_annos.mat",
        "cars_test_annos_withlabels.mat",
        "cars_train",
    ],
)
def test_what_is_missing_is_named_and_how_to_get_it(tmp_path, missing):
    write_cars(tmp_path)
    (tmp_path / missing).rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError) as caught:
        cars(str(tmp_path))
    message = str(caught.value)
    assert (
        f"has no {missing if '/' in missing or 'mat' not in missing else 'devkit/' + missing}"
        in message
    )
    for word in ("home server is gone", "Kaggle", "Hugging Face", "dataset.root", "cars_meta.mat"):
        assert word in message


def test_no_root(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset.root is not given"):
        cars(None)
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        cars(str(tmp_path / "nowhere"))


def test_images_that_were_not_unpacked(tmp_path):
    write_cars(tmp_path)
    (tmp_path / "cars_train" / "00003.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match="1 of the 12 images of the train split .*00003.jpg"
    ):
        cars(str(tmp_path))


def test_damaged_annotations(tmp_path):
    write_cars(tmp_path)
    file = tmp_path / "devkit" / "cars_train_annos.mat"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="cars_train_annos.mat cannot be read"):
        cars(str(tmp_path))


def test_a_file_name_does_not_lead_out_of_the_folder(tmp_path):
    from scipy.io import loadmat, savemat

    write_cars(tmp_path)
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    file = tmp_path / "devkit" / "cars_train_annos.mat"
    annotations = loadmat(file)["annotations"]
    annotations[0, 0]["fname"] = "../outside.jpg"
    savemat(file, {"annotations": annotations})
    with pytest.raises(ValueError, match="outside.jpg, an image of the train split, lies outside"):
        cars(str(tmp_path))
