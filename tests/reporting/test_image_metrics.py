"""Measures in words: every evaluation has a column of its own, and what a reader has to know."""

import pytest

from sgid.reporting.html import classifier_text
from sgid.reporting.image_metrics import evaluations_table, notes

CLASSIFIER = {"fingerprint": "abc", "aug": ["flip_crop"], "backbone": "small_resnet", "top1": 80.0}


def evaluation(
    fingerprint="f", *, method="sgid", path="a/b/one", dataset="pets", seed=0, cosine=0.5
):
    return {
        **{"fingerprint": fingerprint, "method": method, "path": path, "dataset": dataset},
        **{"seed": seed, "measures": {"cosine": cosine}, "originals": {"cosine": 1.0}},
        "counts": {"images": 100, "originals": 20, "held_out": 10, "test": 30, "at_most": 20_000},
        "leakage": {"limit": 0.1, "share": 1 / 11},
    }


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        ({"method": "mixup"}, ["sgid", "mixup"]),
        ({"path": "a/b/two"}, ["sgid (b/one)", "sgid (b/two)"]),
        ({"path": "c/b/one"}, ["sgid (a/b/one)", "sgid (c/b/one)"]),
        ({"dataset": "cars"}, ["sgid (a/b/one, pets)", "sgid (a/b/one, cars)"]),
        ({"seed": 1}, ["sgid (a/b/one, pets, seed 0)", "sgid (a/b/one, pets, seed 1)"]),
        ({}, ["sgid (a/b/one, f)", "sgid (a/b/one, g)"]),
    ],
)
def test_no_two_evaluations_are_one_column(other, labels):
    table = evaluations_table([evaluation(), evaluation("g", cosine=0.7, **other)])
    assert table.headers[-2:] == tuple(labels)
    assert [cell.text for cell in table.rows[0]][-2:] == ["0.500", "0.700"]


def test_a_sample_is_noted_where_there_is_one():
    counts, leakage = evaluation()["counts"], evaluation()["leakage"]
    assert not any("at random" in note for note in notes(counts, leakage))
    said = notes({**counts, "images": 20_001}, leakage)[0]
    assert said.startswith("Of sets of more than 20,000 images, 20,000 drawn at random")


def test_a_classifier_comes_with_its_own_accuracy():
    same = classifier_text({**CLASSIFIER, "held_out_top1": 71.25, "same_originals": True})
    assert same is not None and "gives 71.2 % of the held-out real images their label" in same
    assert "on the very originals of these images: methods that stay near" in same
    other = classifier_text({**CLASSIFIER, "held_out_top1": 71.25, "same_originals": False})
    assert other is not None and "It may have been trained on some of the originals" in other
    assert classifier_text(None) is None
