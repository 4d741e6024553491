"""What a cluster cannot be is named with its rule, before anything is begun."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sgid.cluster.driver import make_stores
from sgid.config.compose import compose
from sgid.stages.validation import cluster_problems


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("cluster.storage=s3://b", "cluster.storage=s3://b: without cluster=ray there is no"),
        ("cluster.name=dask", "cluster.name=dask: must be one of none, ray"),
        ("cluster=ray cluster.address=ray://head:10001", "run it on a node of the cluster"),
        ("cluster=ray cluster.gpus=1.5", "cluster.gpus=1.5: must be a whole number, or a share"),
        ("cluster=ray cluster.min_workers=3 cluster.max_workers=2", "cluster.max_workers=2: below"),
    ],
)
def test_what_cannot_be_is_named(options, said):
    (line,) = cluster_problems(compose(options.split()).cluster)
    assert said in line


@pytest.mark.parametrize("options", ["", "cluster=ray cluster.gpus=0.5 cluster.address=auto"])
def test_what_can_be_is_let_through(options):
    assert not list(cluster_problems(compose(options.split()).cluster))


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("sgid.stages.validation.find_spec", lambda name: None)
    (line,) = cluster_problems(compose(["cluster=ray"]).cluster)
    assert 'pip install "sgid[cluster]"' in line


def test_machines_that_share_no_folder_do_not_each_learn_their_own():
    run: Any = SimpleNamespace(cluster=SimpleNamespace(storage="s3://b"))
    method = SimpleNamespace(name="da_fusion")
    augmentation: Any = SimpleNamespace(repair=lambda: True, artifact=Path("a"), method=method)
    with pytest.raises(ValueError, match=r"each machine would prepare its own da_fusion"):
        make_stores(run, augmentation, Console())
