"""Rows of a generated store keep their promise: they say how to make their image again."""

import hashlib
import pickle
from dataclasses import replace

import pytest

from sgid.data.decode import decode
from sgid.generation.rows import FORMATS, schema, to_row
from sgid.generation.stored import MappedImages, stored_images
from sgid.records import Generated
from sgid.store import Store
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
    again = decode(to_row(Generated(REQUESTS[0], image), format=format)["image"]["bytes"])
    if format == "jpeg":
        assert difference(again, image) < 40
    else:
        assert again.tobytes() == image.tobytes()


def test_every_column_is_filled(store):
    row = to_row(Generated(REQUESTS[0], REQUESTS[0].init_image), format="png")
    assert list(row) == schema().names
    assert store.read().schema.names == schema().names


def test_the_store_as_a_set_to_train_on(store):
    images = stored_images(store, ("bag", "coat", "shirt"))
    rows = store.read().to_pylist()
    assert len(images) == len(rows)
    for sample, row in zip(images, rows, strict=True):
        assert sample.key == f"{row['key']}#{row['repeat']}" and sample.label == row["label"]
        assert sample.image.tobytes() == decode(row["image"]["bytes"]).tobytes()
    assert images.checksums == tuple(row["checksum"] for row in rows)
    assert (store.folder / "images.arrow").is_file()


def test_the_reader_travels_without_the_open_file(store):
    read = stored_images(store, ("bag", "coat", "shirt")).read
    data = read(3)  # opens the file here
    again = pickle.loads(pickle.dumps(read))
    assert isinstance(again, MappedImages) and again.column is None and again(3) == data
