"""The copy of a store that training reads: made once, and again where it is cut off."""

import os
import pickle
import threading
import time

import numpy as np
import pytest
from PIL import Image

from sgid.records import Described, Generated, Request
from sgid.store.store import CorruptStore, Store
from sgid.store.tables import schema, stored_images, to_row

NAMES = ("hat", "coat", "bag")


@pytest.fixture
def store(tmp_path) -> Store:
    noise = np.random.default_rng(0)
    store = Store(tmp_path, {"kind": "test"}, schema(), 10, 4)
    for shard in store.missing():
        rows = []
        for i in store.range(shard):
            image = Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            described = Described(f"k{i // 2}", i % 3, NAMES[i % 3], "", 0.25, (), ())
            request = Request(
                described, i % 2, "sgid", "a hat", None, 0.5, 3.0, i, i % 3, NAMES[i % 3]
            )
            rows.append(to_row(Generated(request, image, "float32"), format="png"))
        store.write(shard, rows)
    store.finish()
    return store


def test_images_keys_and_labels_are_those_of_the_shards_also_in_other_processes(store):
    images = stored_images(store, NAMES)
    for some in (images, pickle.loads(pickle.dumps(images))):
        assert list(some.keys) == [f"k{i // 2}#{i % 2}" for i in range(10)]
        assert list(some.labels) == [i % 3 for i in range(10)]
        for row, expected in enumerate(store.read().to_pylist()):
            assert some.read(row) == expected["image"]["bytes"]


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.99])
def test_a_copy_that_is_cut_off_is_removed_and_made_again(store, keep):
    before = [one.image.tobytes() for one in stored_images(store, NAMES)]
    path = store.folder / "rows.arrow"
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep in (0, 7) else int(keep * len(data))])
    with pytest.raises(CorruptStore, match=r"rows\.arrow was damaged .* makes it again"):
        stored_images(store, NAMES)
    assert [one.image.tobytes() for one in stored_images(store, NAMES)] == before


def test_one_process_copies_and_others_wait(store, monkeypatch):
    copies = []
    real = os.replace

    def slow(*paths: object) -> None:
        copies.append(paths)
        time.sleep(0.3)
        real(*paths)

    monkeypatch.setattr(os, "replace", slow)
    threads = [threading.Thread(target=stored_images, args=(store, NAMES)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(copies) == 1 and len(stored_images(store, NAMES)) == 10


def test_what_a_killed_process_had_copied_is_removed(store):
    left = store.folder / ".rows.arrow.ab12.tmp"
    left.write_bytes(b"half of it")
    stored_images(store, NAMES)
    assert not left.exists()
