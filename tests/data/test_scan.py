import os
import shutil
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from sgid.data.decode import decode
from sgid.data.scan import _save, scan
from sgid.data.sources.folder import folder
from tests.data.writers import encoded, picture, write_folder, write_parquet


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "set", {"a": 10, "b": 10})


def spoil(root) -> None:
    whole = encoded(picture(0, 50, 64), "JPEG")
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "empty.png").write_bytes(b"")
    (root / "b" / "page.jpg").write_text("<html>")


def listing(root):
    return folder(str(root)).train


def counted_reads(one):
    """The listing, and the rows that are read through it."""
    rows: list[int] = []

    def read(row: int) -> bytes:
        rows.append(row)
        return one.read(row)

    return replace(one, read=read), rows


def test_all_images_with_their_checksums(root, tmp_path):
    images, bad = scan(listing(root), max_bad=0, cache=tmp_path / "cache")
    assert len(images) == 20 and bad == {} and len(set(images.checksums)) == 20
    (root / "b" / "00.png").write_bytes((root / "a" / "00.png").read_bytes())
    again, _ = scan(listing(root), max_bad=0, cache=tmp_path / "cache")
    assert again.checksums[10] == again.checksums[0] == images.checksums[0]
    assert again.digest() != images.digest()


def test_what_was_checked_before_is_only_read(root, tmp_path):
    spoil(root)
    checked, bad = scan(replace(listing(root), checked=True), max_bad=0, cache=tmp_path / "cache")
    assert len(checked) == 23 and bad == {} and len(set(checked.checksums)) == 23


def test_unreadable_images_are_named_and_left_out(root, tmp_path):
    spoil(root)
    images, bad = scan(listing(root), max_bad=0.2, cache=tmp_path)
    assert set(bad) == {"a/cut.jpg", "a/empty.png", "b/page.jpg"}
    assert "truncated" in bad["a/cut.jpg"].problem and "empty" in bad["a/empty.png"].problem
    assert len(images) == 20 and not set(bad) & set(images.keys)
    last = images[19]
    assert last.key == "b/09.png" and last.class_name == "b"
    assert last.image.tobytes() == decode((root / "b" / "09.png").read_bytes()).tobytes()


def test_too_many_unreadable_images_are_an_error(root, tmp_path):
    spoil(root)
    with pytest.raises(ValueError) as caught:
        scan(listing(root), max_bad=0.1, cache=tmp_path)
    for words in ("3 of 23 images", "a/cut.jpg: not a readable image", "dataset.max_bad=0.1"):
        assert words in str(caught.value)
    for share in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="dataset.max_bad="):
            scan(listing(root), max_bad=share, cache=tmp_path)


def test_a_link_to_nothing_is_unreadable_until_it_is_mended(root, tmp_path):
    (root / "a" / "link.png").symlink_to(tmp_path / "absent.png")
    _, bad = scan(listing(root), max_bad=0.1, cache=tmp_path / "cache")
    assert bad["a/link.png"].problem == "cannot be read: No such file or directory"
    (tmp_path / "absent.png").write_bytes(encoded(picture(0, 60)))
    images, bad = scan(listing(root), max_bad=0.1, cache=tmp_path / "cache")
    assert bad == {} and len(images) == 21


def test_the_second_scan_reads_nothing_and_says_the_same(root, tmp_path):
    spoil(root)
    first = scan(listing(root), max_bad=0.2, cache=tmp_path)
    again, rows = counted_reads(listing(root))
    second = scan(again, max_bad=0.2, cache=tmp_path)
    assert rows == []
    assert second[0].digest() == first[0].digest() and second[1] == first[1]


def test_only_what_changed_is_read_again(root, tmp_path):
    scan(listing(root), max_bad=0, cache=tmp_path)
    (root / "a" / "03.png").write_bytes(encoded(picture(5, 5)))
    (root / "b" / "zz.png").write_bytes(encoded(picture(5, 6)))
    (root / "b" / "04.png").unlink()
    touched = root / "b" / "09.png"
    os.utime(touched, ns=(0, time.time_ns() + 10**9))
    again, rows = counted_reads(listing(root))
    images, _ = scan(again, max_bad=0, cache=tmp_path)
    assert [again.keys[row] for row in sorted(rows)] == ["a/03.png", "b/09.png", "b/zz.png"]
    assert len(images) == 20


def test_a_file_replaced_by_one_of_equal_size_and_time_is_read_again(root, tmp_path):
    for path in (root / "a").iterdir():
        picture(0, 0).save(path.with_suffix(".bmp"))
        os.utime(path.with_suffix(".bmp"), (315532800, 315532800))
    images, _ = scan(listing(root), max_bad=0, cache=tmp_path)
    picture(0, 1).save(root / "a" / "03.bmp")
    os.utime(root / "a" / "03.bmp", (315532800, 315532800))
    again, _ = scan(listing(root), max_bad=0, cache=tmp_path)
    changed = [
        key
        for key, old, new in zip(again.keys, images.checksums, again.checksums, strict=True)
        if old != new
    ]
    assert changed == ["a/03.bmp"]


def test_a_scan_that_is_broken_off_goes_on_where_it_was(root, tmp_path):
    whole = listing(root)

    def fails_at_15(row: int) -> bytes:
        if row == 15:
            raise KeyboardInterrupt
        return whole.read(row)

    with pytest.raises(KeyboardInterrupt):
        scan(replace(whole, read=fails_at_15), max_bad=0, cache=tmp_path)
    again, rows = counted_reads(whole)
    images, _ = scan(again, max_bad=0, cache=tmp_path)
    assert set(rows) == set(range(15, 20)) and len(images) == 20


def test_a_scan_that_is_killed_has_kept_what_it_found_before(root, tmp_path, monkeypatch):
    """Nothing is written at the end of a process that is killed."""
    written = []

    def save(file, *given):
        _save(file, *given)
        written.append(len(pq.read_table(file)))

    monkeypatch.setattr("sgid.data.scan._save", save)
    monkeypatch.setattr("sgid.data.scan.SAVED_EVERY", -1)  # after each image
    scan(listing(root), max_bad=0, cache=tmp_path)
    assert written == [*range(1, 21), 20]


def test_a_damaged_cache_is_made_again_and_nothing_else_is_left(root, tmp_path):
    scan(listing(root), max_bad=0, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    images, _ = scan(listing(root), max_bad=0, cache=tmp_path / "cache")
    assert len(images) == 20 and list((tmp_path / "cache").iterdir()) == [file]


def test_an_image_that_could_not_be_read_is_tried_again(root, tmp_path):
    whole = listing(root)

    def fails_at_3(row: int) -> bytes:
        if row == 3:
            raise OSError(5, "Input/output error")
        return whole.read(row)

    _, bad = scan(replace(whole, read=fails_at_3), max_bad=0.1, cache=tmp_path)
    assert bad["a/03.png"].problem == "cannot be read: Input/output error"
    assert scan(whole, max_bad=0.1, cache=tmp_path)[1] == {}


def test_two_sets_do_not_share_findings(root, tmp_path):
    scan(listing(root), max_bad=0, cache=tmp_path)
    shutil.copytree(root, tmp_path / "copy")
    stamps = listing(root).stamps
    other, rows = counted_reads(replace(listing(tmp_path / "copy"), stamps=stamps))
    scan(other, max_bad=0, cache=tmp_path)
    assert len(rows) == 20


def test_parquet(tmp_path):
    from sgid.data.sources.bundled import parquet

    write_parquet(tmp_path, {"train": 5}, ["a", "b"])
    images, bad = scan(parquet(tmp_path).train, max_bad=0, cache=tmp_path / "cache")
    assert len(images) == 10 and bad == {} and images[7].key == "train/1/2"
