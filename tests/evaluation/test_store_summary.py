"""The summary and the examples of a generated store, against its images one by one."""

import json

import numpy as np
import pytest

from sgid.data.decode import decode
from sgid.evaluation.features import embed, stored_embeddings
from sgid.evaluation.store_summary import class_embeddings, examples, score_store, summarise
from sgid.records import Described, Generated, Request
from sgid.store.store import Store
from sgid.store.tables import schema, to_row

REPEATS = 2


def write(folder, fashion, similarity):
    """Each image of the set mirrored, and turned upside down."""
    store = Store(folder, {"method": "sgid"}, schema(), REPEATS * len(fashion), 7)
    for shard in store.missing():
        rows = []
        for row in store.range(shard):
            sample, repeat = fashion[row // REPEATS], row % REPEATS
            one = Described(sample.key, sample.label, sample.class_name, "c", similarity, (), ())
            drawn_as = (sample.label, sample.class_name)
            asked = Request(one, repeat, "sgid", f"p{row}", None, 0.5, 3.0, row, *drawn_as)
            image = sample.image.transpose(repeat)
            rows.append(to_row(Generated(asked, image, "float32"), format="png"))
        store.write(shard, rows)
    store.finish()
    return store


@pytest.fixture(scope="module")
def store(fashion, tmp_path_factory):
    return write(tmp_path_factory.mktemp("stores"), fashion, 0.25)


@pytest.fixture(scope="module")
def scorer(make_scorer):
    return make_scorer()


def summary_of(store, images, scorer):
    vectors = stored_embeddings(store, lambda: scorer, name="x")
    classes = class_embeddings(images.class_names, scorer)
    scores = score_store(store, vectors, images, embed(images, scorer), classes)
    return json.loads(json.dumps(summarise(store, scores, images.class_names)))


def test_summary(store, fashion, scorer):
    summary = summary_of(store, fashion, scorer)
    cosines = [
        float(np.dot(*scorer.embed_images([sample.image, sample.image.transpose(repeat)])))
        for sample in fashion
        for repeat in range(REPEATS)
    ]
    labels = np.repeat(fashion.labels, REPEATS)
    assert summary["images"] == REPEATS * len(fashion) and summary["method"] == "sgid"
    for label, name in enumerate(fashion.class_names):
        if label in labels:
            mean = np.mean(np.array(cosines)[labels == label])
            assert summary["cosine_per_class"][name] == pytest.approx(mean, abs=1e-5)
    counts = {name: sum(one["counts"]) for name, one in summary["histograms"].items()}
    assert counts == {"similarity": store.rows, "guidance_scale": store.rows}


def test_a_method_without_similarities_has_no_histogram_of_them(fashion, scorer, tmp_path):
    few = fashion.select([0, 1])
    summary = summary_of(write(tmp_path, few, float("nan")), few, scorer)
    assert set(summary["histograms"]) == {"guidance_scale"}


def test_examples_show_originals_with_their_images(store, fashion):
    kept = np.arange(store.rows) % 3 == 0
    shown = examples(store, fashion, count=5, kept=kept)
    assert len(shown) == 5
    assert len({one["class_name"] for one in shown}) == min(5, len(set(fashion.labels)))
    for one in shown:
        original = fashion[fashion.keys.index(one["key"])].image
        assert decode(one["original"]).tobytes() == original.tobytes()
        expected = [original.transpose(repeat).tobytes() for repeat in range(REPEATS)]
        assert [decode(image).tobytes() for image in one["images"]] == expected
        row = REPEATS * fashion.keys.index(one["key"])
        assert one["kept"] == [bool(kept[row + repeat]) for repeat in range(REPEATS)]
    turned = examples(store, fashion.select(range(len(fashion))[::-1]), count=5)
    assert [one["key"] for one in turned] == [one["key"] for one in shown], "in any order"
    assert all(all(one["kept"]) for one in turned), "without a filter"
    assert len(examples(store, fashion, count=1000)) == len(fashion)


def test_embeddings_do_not_depend_on_how_many_are_decoded_at_once(fashion, scorer):
    few, all_at_once = embed(fashion, scorer, at_once=5), embed(fashion, scorer)
    np.testing.assert_allclose(few, all_at_once, atol=1e-6)


def test_embeddings_of_a_store_are_made_once_and_row_by_row(fashion, scorer, tmp_path, capsys):
    few = fashion.select([0, 1, 2])
    store = write(tmp_path, few, 0.5)
    first = stored_embeddings(store, lambda: scorer, name="x")
    images = [sample.image.transpose(repeat) for sample in few for repeat in range(REPEATS)]
    np.testing.assert_allclose(first, scorer.embed_images(images), atol=1e-5)
    assert f"{store.rows}/{store.rows}" in capsys.readouterr().err
    again = stored_embeddings(store, pytest.fail, name="x")
    np.testing.assert_array_equal(first, again)
    assert not capsys.readouterr().err, "a bar of work that is not done"


def test_the_nearest_class_is_that_of_the_phrases(store, fashion, scorer):
    vectors = stored_embeddings(store, lambda: scorer, name="x")
    phrases = [f"{name} garment" for name in fashion.class_names]
    classes = class_embeddings(phrases, scorer)
    scores = score_store(store, vectors, fashion, embed(fashion, scorer), classes)
    texts = scorer.embed_texts([f"a photo of a {phrase}" for phrase in phrases])
    np.testing.assert_array_equal(scores.nearest, (vectors @ texts.T).argmax(1))
    np.testing.assert_array_equal(scores.labels, np.repeat(fashion.labels, REPEATS))
