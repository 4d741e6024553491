"""Sets that are not whole, or not what they should be, and what is said about them."""

import json

import pytest
from hydra.errors import InstantiationException

from tests.data.formats import on_disk
from tests.data.sources.test_conf import source


@pytest.fixture
def refused(tmp_path):
    """`refused(name, damage)`: what is said of set `name` after `damage(folder)`."""

    def message(name, damage, kind=FileNotFoundError):
        with on_disk(name, tmp_path, train=2, validation=1, test=1):
            damage(tmp_path)
            with pytest.raises(InstantiationException) as caught:
                source(name, root=str(tmp_path))
        assert isinstance(caught.value.__cause__, kind), caught.value.__cause__
        text = str(caught.value.__cause__)
        assert "ROOT/" in text and "dataset.root=ROOT" in text
        return text

    return message


def remove(pattern):
    return lambda root: sorted(root.rglob(pattern))[0].unlink()


def rewrite(pattern, change):
    def damage(root):
        path = sorted(root.rglob(pattern))[0]
        path.write_bytes(change(path.read_bytes()))

    return damage


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("aircraft", "0034309.jpg"),
        ("cars", "cars_test/00002.jpg"),
        ("cub", "Laysan_Albatross_0001_18.jpg"),
        ("dtd", "zigzagged_0003.jpg"),
        ("flowers", "image_00004.jpg"),
        ("food", "1005649.jpg"),
        ("pets", "Siamese_2.jpg"),
        ("tiny_imagenet", "n02012849_1.JPEG"),
    ],
)
def test_an_image_that_a_list_names_is_missing(refused, name, image):
    message = refused(name, remove(image))
    assert "incompletely: 1 of the " in message and image in message
    assert "move it away before" in message


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("aircraft", "images_manufacturer_val.txt"),
        ("aircraft", "variants.txt"),
        ("caltech101", "wild_cat/image_0001.jpg"),
        ("cifar10", "data_batch_3"),
        ("cifar100", "meta"),
        ("cub", "train_test_split.txt"),
        ("dtd", "test1.txt"),
        ("fashion_mnist", "t10k-labels-idx1-ubyte"),
        ("flowers", "setid.mat"),
        ("food", "test.json"),
        ("pets", "trainval.txt"),
        ("stl10", "test_y.bin"),
        ("stl10", "class_names.txt"),
        ("tiny_imagenet", "n01443537_boxes.txt"),
        ("tiny_imagenet", "words.txt"),
    ],
)
def test_a_file_of_the_set_is_missing(refused, name, file):
    def damage(root):
        paths = root.rglob(file.rpartition("/")[2])
        for path in list(paths):
            if "/" not in file or path.parent.name == file.partition("/")[0]:
                path.unlink()
        for other in root.rglob("wild_cat/*.jpg"):
            other.unlink()

    assert "incompletely" in refused(name, damage)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "data_batch_3"),
        ("cifar10", "batches.meta"),
        ("cifar100", "test"),
        ("flowers", "imagelabels.mat"),
        ("stl10", "train_X.bin"),
    ],
)
def test_a_file_that_is_not_the_original_is_not_opened(refused, name, file):
    message = refused(name, rewrite(file, lambda data: data[:-1] + b"!"))
    assert "missing or are not the original's" in message


@pytest.mark.parametrize(
    ("name", "file", "change", "said"),
    [
        ("aircraft", "images_variant_train.txt", lambda data: b"x\n", "cannot be read as FGVC"),
        ("aircraft", "images_variant_test.txt", lambda data: data.replace(b"DHC", b"XYZ"), "XYZ-6"),
        ("cub", "images.txt", lambda data: b"1 ../../x.jpg\n", "lies outside of"),
        ("cub", "image_class_labels.txt", lambda data: data.replace(b" 2", b" 9"), "'9'"),
        ("dtd", "train1.txt", lambda data: data[:23], "split has other classes"),
        ("food", "train.json", lambda data: data[:40], "cannot be read as Food-101"),
        (
            "food",
            "test.json",
            lambda data: json.dumps({"pho": json.loads(data)["pho"]}).encode(),
            "the test split has other classes than the train split",
        ),
        ("pets", "test.txt", lambda data: data.replace(b" 3 1 ", b" x 1 "), "'x'"),
        ("tiny_imagenet", "words.txt", lambda data: b"n00001740\tentity\n", "n01443537"),
        (
            "tiny_imagenet",
            "words.txt",
            lambda data: data.replace(b"crane, hoist", b"crane"),
            "n02012849 and n03126707 the same name, 'crane'",
        ),
        ("fashion_mnist", "train-images-idx3-ubyte", lambda data: data[:-1], "is truncated"),
        ("fashion_mnist", "train-labels-idx1-ubyte", lambda data: b"\x80\x04", "no IDX file"),
        (
            "fashion_mnist",
            "train-labels-idx1-ubyte",
            lambda data: data[:-1] + b"\x0b",
            "train split has the class numbers [11], but there are 10 classes",
        ),
        (
            "fashion_mnist",
            "t10k-labels-idx1-ubyte",
            lambda data: data[:7] + b"\x09" + data[8:-1],
            "the test split has 10 images and 9 labels",
        ),
    ],
)
def test_lists_that_cannot_be_read_or_do_not_fit(refused, name, file, change, said):
    message = refused(name, rewrite(file, change), ValueError)
    assert said in message and "cannot be read as" in message


def test_a_damaged_gz_file(tmp_path):
    from tests.data.formats.arrays import write_fashion_mnist

    write_fashion_mnist(tmp_path, train=2, validation=0, test=1, place="", packed=True)
    rewrite("train-images-*", lambda data: data[:-20])(tmp_path)
    with pytest.raises(Exception, match="train-images-idx3-ubyte.gz is damaged"):
        source("fashion_mnist", root=str(tmp_path))
