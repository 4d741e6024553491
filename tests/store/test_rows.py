"""Rows of a generated store keep their promise: they say how to make their image again."""

import hashlib
import pickle
from dataclasses import asdict, replace

import pyarrow as pa
import pytest

from sgid.data.decode import decode
from sgid.methods.describe import CAPTIONS, choose
from sgid.records import Described, Generated
from sgid.store.store import Store
from sgid.store.tables import FORMATS, MappedRows, StoredDescriptions, schema, stored_images, to_row
from tests.generation.requests import difference, key, reference, varied

REQUESTS = [replace(one, label=i % 3, repeat=i % 2) for i, one in enumerate(varied(8))]


@pytest.fixture(scope="module")
def store(make_engine, tmp_path_factory):
    """Eight images by the engine, written as the stages write them."""
    made = {key(one.request): one for one in make_engine().generate(REQUESTS)}
    spec = {"steps": 6, "scheduler": "DPMSolverMultistepScheduler"}
    store = Store(tmp_path_factory.mktemp("generated"), spec, schema(), len(REQUESTS), 3)
    for shard in store.missing():
        rows = [to_row(made[key(REQUESTS[i])], format="png") for i in store.range(shard)]
        store.write(shard, rows)
    store.finish()
    return store


def test_diffusers_makes_the_image_of_a_row_again(store):
    originals = {key(one): one.init_image for one in REQUESTS}
    for row in store.read().to_pylist():
        told = replace(
            REQUESTS[0],
            prompt=row["prompt"],
            strength=row["strength"],
            guidance_scale=row["guidance_scale"],
            seed=row["seed"],
            init_image=originals[row["key"]],
        )
        again = reference(told, **store.spec)
        assert difference(decode(row["image"]["bytes"]), again) <= 1


def test_a_row_says_where_it_came_from(store):
    for one, row in zip(REQUESTS, store.read().to_pylist(), strict=True):
        assert (row["key"], row["repeat"], row["label"]) == (key(one), one.repeat, one.label)
        assert (row["class_name"], row["caption"]) == ("bag", "a bag")
        assert (row["similarity"], row["method"]) == (0.2, "sgid")
        assert row["checksum"] == hashlib.sha256(row["image"]["bytes"]).hexdigest()
        assert (row["width"], row["height"]) == decode(row["image"]["bytes"]).size


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format):
    image = REQUESTS[0].init_image
    again = decode(
        to_row(Generated(REQUESTS[0], image, "float32"), format=format)["image"]["bytes"]
    )
    if format == "jpeg":
        assert difference(again, image) < 40
    else:
        assert again.tobytes() == image.tobytes()


def test_every_column_is_filled(store):
    row = to_row(Generated(REQUESTS[0], REQUESTS[0].init_image, "float32"), format="png")
    every = schema(
        targets=True, negatives=True, adapters=True, selected=True, image_prompts=True, edges=True,
        edited=True, changed=True,
    )  # fmt: skip
    assert list(row) == every.names
    assert store.read().schema.names == schema().names


def test_the_store_as_a_set_to_train_on(store):
    images = stored_images(store, ("bag", "coat", "shirt"))
    rows = store.read().to_pylist()
    assert len(images) == len(rows)
    for sample, row in zip(images, rows, strict=True):
        assert sample.key == f"{row['key']}#{row['repeat']}" and sample.label == row["label"]
        assert sample.image.tobytes() == decode(row["image"]["bytes"]).tobytes()
    assert list(images.checksums) == [row["checksum"] for row in rows]
    assert [images.keys[i] for i in range(len(images))] == list(images.keys)
    assert images.labels[-1] == rows[-1]["label"] and type(images.labels[-1]) is int
    assert images.keys[2:4] == list(images.keys)[2:4]


def test_some_of_a_store_as_a_set_to_train_on(store):
    whole = stored_images(store, ("bag", "coat", "shirt"))
    some = whole.select([5, 2])
    assert some.keys == (whole.keys[5], whole.keys[2])
    assert some[0].image.tobytes() == whole[5].image.tobytes()


def test_the_copy_to_train_on_is_made_once(store):
    stored_images(store, ("bag", "coat", "shirt"))
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    stored_images(store, ("bag", "coat", "shirt"))
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == before


def test_the_set_travels_without_the_open_file(store):
    images = stored_images(store, ("bag", "coat", "shirt"))
    data = images.read(3)  # opens the file here
    assert isinstance(images.read, MappedRows) and "table" in vars(images.read)
    again = pickle.loads(pickle.dumps(images.read))
    assert "table" not in vars(again) and again(3) == data


@pytest.fixture
def described(tmp_path):
    """A described store of seven images, and its records."""
    records = [
        Described(f"k{i}", i % 2, "bag", "b", 0.5 + i, ("a", "b", "c"), (i / 10, 0.5 + i, i / 30))
        for i in range(7)
    ]
    columns = {"key": pa.string(), "label": pa.int64(), "class_name": pa.string()}
    columns |= {"caption": pa.string(), "similarity": pa.float64()}
    columns |= {"candidates": pa.list_(pa.string()), "scores": pa.list_(pa.float64())}
    store = Store(tmp_path, {"kind": "described"}, pa.schema(columns.items()), 7, 2)
    for shard in store.missing():
        store.write(shard, [asdict(records[i]) for i in store.range(shard)])
    store.finish()
    return store, records


@pytest.mark.parametrize("caption", CAPTIONS)
def test_descriptions_are_those_that_were_written(described, caption):
    store, records = described
    expected = [choose(record, caption, 3) for record in records]
    found = StoredDescriptions(store, caption=caption, seed=3)
    assert list(found) == expected and len(found) == 7
    assert [found[i] for i in (6, 0, 3)] == [expected[i] for i in (6, 0, 3)]
    assert found[-1] == expected[-1] and found[1:3] == expected[1:3]
    assert found.similarities().tolist() == [one.similarity for one in expected]


def test_descriptions_are_read_where_they_are_asked_for(described):
    store, records = described
    found = StoredDescriptions(store, caption="best", seed=0)
    store.part(0).unlink()
    assert found[2:7] == records[2:7]
    with pytest.raises(FileNotFoundError):
        found[0]
