import os
import unicodedata

import pytest

from sgid.data.sources.folder import folder
from tests.data.writers import encoded, picture, write_folder


def test_classes_in_one_place(tmp_path):
    write_folder(tmp_path, {"red_car": 2, "Äpfel & co": 1, "bike": 1})
    splits = folder(str(tmp_path))
    assert splits.validation is None and splits.test is None
    assert splits.train.class_names == ("bike", "red car", "Äpfel & co")
    assert splits.train.keys == (
        "bike/00.png",
        "red_car/00.png",
        "red_car/01.png",
        "Äpfel & co/00.png",
    )
    assert splits.train.labels == (0, 1, 1, 2)
    assert splits.train.read(2) == (tmp_path / "red_car" / "01.png").read_bytes()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_splits_below(tmp_path, name):
    for split, count in {"train": 3, name: 2, "test": 1}.items():
        write_folder(tmp_path / split, {"cat": count, "dog": count})
    (tmp_path / "annotations").mkdir()
    splits = folder(str(tmp_path))
    assert {split: len(listing.keys) for split, listing in splits.present().items()} == {
        "train": 6,
        "validation": 4,
        "test": 2,
    }
    assert splits.test is not None and splits.test.keys[0] == "test/cat/00.png"


def test_labels_are_those_of_train_where_another_split_lacks_a_class(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    write_folder(tmp_path / "test", {"a": 1, "c": 1})
    splits = folder(str(tmp_path))
    assert splits.test is not None and splits.test.labels == (0, 2)


def test_train_may_be_a_class(tmp_path):
    write_folder(tmp_path, {"bus": 1, "car": 1, "train": 1})
    assert folder(str(tmp_path)).train.class_names == ("bus", "car", "train")


def test_nested_files_other_extensions_and_what_is_passed_over(tmp_path):
    write_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "er" / "X.JPG").write_bytes(encoded(picture(0, 9), "JPEG"))
    (tmp_path / "a" / "y.WebP").write_bytes(encoded(picture(0, 8), "WEBP"))
    (tmp_path / "a" / ".git").mkdir()
    (tmp_path / "a" / ".git" / "z.png").write_bytes(encoded(picture(0, 7)))
    for other in ("a/._00.png", "a/notes.txt", "b/.DS_Store", "README.md"):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.csv").write_text("a,b")
    splits = folder(str(tmp_path))
    assert splits.train.keys == ("a/00.png", "a/deep/er/X.JPG", "a/y.WebP", "b/00.png")
    assert splits.train.class_names == ("a", "b")
    assert splits.ignored == 5


def test_names_are_nfc_and_still_read(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Äpfel")
    write_folder(tmp_path, {decomposed: 1, "b": 1})
    train = folder(str(tmp_path)).train
    assert train.class_names == ("b", "Äpfel") and train.keys[1] == "Äpfel/00.png"
    assert train.read(1)[:4] == b"\x89PNG"


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_a_name_that_is_not_utf8_gives_a_key_that_can_be_stored(tmp_path):
    write_folder(tmp_path, {"a": 1, "b": 1})
    try:
        with open(os.fsencode(tmp_path) + b"/a/\xff.png", "wb") as file:
            file.write(encoded(picture(0, 5)))
    except OSError:
        pytest.skip("the file system takes no such name")
    train = folder(str(tmp_path)).train
    assert train.keys[1].encode() == b"a/\\xff.png"
    assert train.read(1) == encoded(picture(0, 5))


def test_order_and_keys_do_not_hang_on_where_the_folder_lies(tmp_path):
    first = folder(str(write_folder(tmp_path / "one", {"a": 3, "b": 3}))).train
    other = folder(str(write_folder(tmp_path / "two", {"b": 3, "a": 3}))).train
    assert first.keys == other.keys == tuple(sorted(first.keys))


def test_links_are_followed_but_not_in_circles_nor_up_and_out(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 2, "b": 2})
    write_folder(tmp_path / "elsewhere", {"more": 1}, first=7)
    (tmp_path / "secret.png").write_bytes(encoded(picture(9, 9)))
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "up").symlink_to("../..", target_is_directory=True)
    (root / "up").symlink_to("..", target_is_directory=True)
    (root / "b" / "round.png").symlink_to("round.png")
    (root / "b" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    keys = folder(str(root)).train.keys
    assert keys == ("a/00.png", "a/01.png", "b/00.png", "b/01.png", "b/more/07.png", "b/round.png")


def test_folders_below_a_class_linked_to_each_other_are_read_once(tmp_path):
    root = write_folder(tmp_path, {"a/x": 1, "a/y": 1, "b": 1})
    (root / "a" / "x" / "to_y").symlink_to(root / "a" / "y")
    (root / "a" / "y" / "to_x").symlink_to(root / "a" / "x")
    assert folder(str(root)).train.keys == ("a/x/00.png", "a/y/00.png", "b/00.png")


def test_two_folders_linked_to_each_other_end(tmp_path):
    root = write_folder(tmp_path, {"a": 1, "b": 1})
    (root / "a" / "to_b").symlink_to(root / "b")
    (root / "b" / "to_a").symlink_to(root / "a")
    assert folder(str(root)).train.keys == (
        "a/00.png",
        "a/to_b/00.png",
        "b/00.png",
        "b/to_a/00.png",
    )


def test_root_not_given_not_there_or_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset.root is not given"):
        folder(None)
    with pytest.raises(
        FileNotFoundError, match=r"dataset.root=.*nowhere does not exist[^$]*<class>"
    ):
        folder(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        folder(str(tmp_path / "file"))


def refused(root) -> str:
    with pytest.raises(ValueError) as caught:
        folder(str(root))
    assert str(root) in str(caught.value)
    return str(caught.value)


def test_no_images_or_one_class_only(tmp_path):
    assert "no images" in refused(tmp_path)
    (tmp_path / "loose.png").write_bytes(encoded(picture(0, 0)))
    assert "no images in class folders" in refused(tmp_path)
    write_folder(tmp_path, {"cat": 2})
    message = refused(tmp_path)
    assert "one class only, 'cat'" in message and "ROOT/train/<class>" in message


def test_a_test_folder_without_labels(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1})
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "1.png").write_bytes(encoded(picture(0, 0)))
    assert "no labels" in refused(tmp_path)


def test_unknown_classes_and_ambiguous_folders(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1})
    write_folder(tmp_path / "val", {"a": 1, "c": 1})
    assert "has classes that" in refused(tmp_path) and ": c" in refused(tmp_path)
    write_folder(tmp_path / "valid", {"a": 1})
    assert "the same split" in refused(tmp_path)
    twins = write_folder(tmp_path / "twins", {"red_car": 1, "red car": 1})
    assert "both read as the class 'red car'" in refused(twins)


def test_numbers_in_front_of_every_name_are_no_part_of_it(tmp_path):
    root = write_folder(tmp_path / "birds", {"001.Black_footed_Albatross": 1, "002.Crow": 1})
    train = folder(str(root)).train
    assert train.class_names == ("Black footed Albatross", "Crow")
    assert train.keys == ("001.Black_footed_Albatross/00.png", "002.Crow/00.png")
    root = write_folder(tmp_path / "splits" / "train", {"1.b": 1, "2.a": 1})
    write_folder(tmp_path / "splits" / "test", {"1.b": 1, "2.a": 1})
    splits = folder(str(tmp_path / "splits"))
    assert splits.test is not None and splits.test.class_names == ("a", "b")
    assert splits.test.labels == (1, 0)


def test_a_number_that_only_some_names_have_belongs_to_them(tmp_path):
    write_folder(tmp_path, {"1.FC_Koeln": 1, "Bayern": 1, "1860": 1})
    assert folder(str(tmp_path)).train.class_names == ("1.FC Koeln", "1860", "Bayern")


def test_no_two_classes_become_one_without_their_numbers(tmp_path):
    write_folder(tmp_path, {"1.cat": 1, "2.cat": 1})
    assert "both read as the class 'cat'" in refused(tmp_path)
