"""Every set that has a layout of its own, written so and read: keys, names, labels, pixels."""

import pickle

import numpy as np
import pytest

from sgid.data.decode import decode
from tests.data.formats import WRITERS, on_disk
from tests.data.sources.test_conf import CONF, source


def test_every_dataset_file_has_a_set_to_try_it_on():
    assert set(WRITERS) == {file.stem for file in CONF.glob("*.yaml")} - {"fashion"}


@pytest.fixture(scope="module", params=sorted(WRITERS))
def read(request, tmp_path_factory):
    """Name, what was written, and what the set's file of `conf/dataset` makes of it."""
    root = tmp_path_factory.mktemp(request.param)
    with on_disk(request.param, root, train=3, validation=2, test=2) as written:
        yield request.param, written, source(request.param, root=str(root)).present()


def test_splits_keys_and_labels(read):
    _, written, listings = read
    assert set(listings) == set(written)
    names = {name for images in written.values() for name, _ in images.values()}
    for split, images in written.items():
        listing = listings[split]
        assert set(listing.class_names) == names and len(listing.class_names) == len(names)
        found = {
            key: listing.class_names[label]
            for key, label in zip(listing.keys, listing.labels, strict=True)
        }
        assert found == {key: name for key, (name, _) in images.items()}
        assert all(type(label) is int for label in listing.labels)


def test_pixels_are_those_that_were_written(read):
    _, written, listings = read
    for split, images in written.items():
        for index, key in enumerate(listings[split].keys):
            assert np.array_equal(np.asarray(decode(listings[split].read(index))), images[key][1])


def test_a_split_has_a_cache_of_its_own_and_stamps_that_are_known(read):
    _, _, listings = read
    assert len({listing.origin for listing in listings.values()}) == len(listings)
    for listing in listings.values():
        assert len(listing.stamps) == len(listing.keys)
        assert all(stamp and "unreadable" not in stamp for stamp in listing.stamps)


def test_readers_travel_to_other_processes_without_pixels(read):
    _, _, listings = read
    for listing in listings.values():
        travelled = pickle.dumps(listing.read)
        assert len(travelled) < 20_000
        assert pickle.loads(travelled)(1) == listing.read(1)
