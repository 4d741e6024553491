"""Paths and ids arrive as they were typed."""

import os

import pytest

from sgid.config.compose import compose, quote_texts

TYPED = (
    "~/photos",
    "/data/fünf Äpfel",
    "/data/写真",
    "/data/#1",
    "/data/a&b",
    "/data/a, b",
    "/data/set[1]",
    "/data/{x}",
    "/data/(x)",
    "/data/it's",
    '/data/a "b"',
    "a=b",
    "1e3",
    "007",
    "1_000",
    "true",
    "C:\\photos\\",
    "C:\\it's\\'\\",
    "x;y!z",
)


@pytest.mark.parametrize("text", TYPED)
def test_what_was_typed_is_what_arrives(text):
    options = [f"dataset.root={text}", f"models.generator.weights.path={text}"]
    config = compose(["dataset=folder", *options])
    assert config.dataset.root == config.models.generator.weights.path == text


def test_what_is_no_text_stays():
    words = [
        "dataset.root=/plain/path",
        "dataset.root='quo ted'",
        "dataset.root=null",
        "dataset.root=${paths.data}/ü",
        "dataset.source.test=false",
        "dataset.validation=1e-1",
        "seed=1,2",
        "--multirun",
    ]
    assert quote_texts(words) == words
    sweep = ["-m", "dataset.root=/a/ü,/b", "models.scorer.weights.id=choice(a,b)"]
    assert quote_texts(sweep) == ["-m", "dataset.root='/a/ü',/b", sweep[2]]


def test_home_is_found_for_what_is_written():
    (word,) = quote_texts(["paths.artifacts=~/x"])
    assert word == f"paths.artifacts={os.path.expanduser('~/x')}"
