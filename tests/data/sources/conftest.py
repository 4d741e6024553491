"""Fixtures of the tests of the hub's sets."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The library's caches, empty."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


@pytest.fixture
def kinds():
    from datasets import ClassLabel, Image, Value

    return {
        "image": Image(),
        "class": ClassLabel(names=["a_b", "cd"]),
        "text": Value("string"),
        "int": Value("int64"),
    }
