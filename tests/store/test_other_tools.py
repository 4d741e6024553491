"""A store of images opens in other people's tools as it is."""

import io

import datasets
import pytest
from datasets import Value

from sgid.records import Described, Generated, Request
from sgid.store.store import Store
from sgid.store.tables import schema, to_row
from tests.data.writers import picture
from tests.store.test_store import SPEC


@pytest.fixture
def images(tmp_path) -> Store:
    """A store of five generated pictures."""
    store = Store(tmp_path, SPEC, schema(), 5, 2)
    for shard in store.missing():
        rows = []
        for i in store.range(shard):
            described = Described(f"k{i // 2}", i % 3, f"class {i % 3}", "a hat", 0.25, (), ())
            prompt, seed = f"hat {i}", 2**62 + i
            request = Request(described, i % 2, "sgid", prompt, None, 0.5, 3.0, seed, i % 3, "hat")
            rows.append(to_row(Generated(request, picture(0, i), "float32"), format="png"))
        store.write(shard, rows)
    store.finish()
    return store


def test_it_opens_in_pandas(images):
    import pandas as pd
    from PIL import Image

    frame = pd.concat(map(pd.read_parquet, sorted(images.folder.glob("*.parquet"))))
    assert frame["prompt"].tolist() == [f"hat {i}" for i in range(5)]
    assert frame["seed"].tolist() == [2**62 + i for i in range(5)]
    image = Image.open(io.BytesIO(frame["image"].iloc[4]["bytes"]))
    assert image.tobytes() == picture(0, 4).tobytes()


def test_it_opens_in_duckdb(images):
    import duckdb

    rows = duckdb.sql(
        f"select label, count(*), avg(guidance_scale) from '{images.folder}/*.parquet' "
        "where strength = 0.5 group by label order by label"
    ).fetchall()
    assert rows == [(0, 2, 3.0), (1, 2, 3.0), (2, 1, 3.0)]


def test_it_opens_in_datasets_with_the_images_decoded(images, tmp_path):
    from datasets import load_dataset

    rows = load_dataset(
        "parquet",
        data_files=str(images.folder / "*.parquet"),
        cache_dir=str(tmp_path / "cache"),
        split="train",
    )
    assert [row["image"].tobytes() for row in rows] == [picture(0, i).tobytes() for i in range(5)]
    assert rows["key"][:] == ["k0", "k0", "k1", "k1", "k2"]


def test_the_schema_is_that_of_datasets():
    features = {
        name: Value(str(kind).replace("double", "float64"))
        for name, kind in zip(schema().names, schema().types, strict=True)
        if name != "image"
    }
    whole, real = Value("int64"), Value("float64")
    features["image"] = datasets.Image()
    features["label_weights"] = [{"label": whole, "weight": real}]
    features["adapters"] = [{"file": Value("string"), "scale": real}]
    features |= {"attempts": whole, "accepted": Value("bool"), "score": real}
    features |= {"source_class": Value("string"), "negative_prompt": Value("string")}
    made = schema(targets=True, negatives=True, adapters=True, selected=True)
    expected = datasets.Features({name: features[name] for name in made.names}).arrow_schema
    assert made.equals(expected, check_metadata=True)
    assert made.metadata == expected.metadata  # also in its order: it is in the files
