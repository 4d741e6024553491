"""The files of conf/dataset, and the bundled images."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sgid.config import DatasetConfig
from sgid.data.datasets import load
from tests.data.writers import write_cars, write_folder

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def source(name: str, **options):
    """What `dataset=name` calls, with `options` given on the command line."""
    config = OmegaConf.load(CONF / f"{name}.yaml")
    config.dataset.merge_with(options)
    config.paths = {"data": "data"}
    return instantiate(config.dataset.source)


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_dataset_file_says_what_it_is_and_fits_the_schema(file):
    package, description, *_ = file.read_text().splitlines()
    assert package == "# @package _global_" and description.startswith("# ")
    config = OmegaConf.load(file)
    assert config.dataset.name == file.stem
    OmegaConf.merge(OmegaConf.structured(DatasetConfig), config.dataset)


def test_folder(tmp_path):
    root = write_folder(tmp_path, {"a": 2, "b": 2})
    assert len(source("folder", root=str(root)).train.keys) == 4
    with pytest.raises(Exception, match="dataset.root is not given"):
        source("folder")


def test_cars(tmp_path):
    assert len(source("cars", root=str(write_cars(tmp_path))).train.keys) == 12


def test_fashion(tmp_path):
    splits = source("fashion")
    data = load(
        splits,
        name="fashion",
        shots=10,
        validation=0.1,
        test=0.2,
        max_bad=0,
        seed=0,
        cache=tmp_path,
    )
    assert (len(splits.train.keys), len(data.validation), len(data.test)) == (5_000, 2_000, 10_000)
    assert len(data.train) == 100 and data.protocol["train_test_duplicates"] == 0
    assert data.class_names[0] == "t-shirt" and data.class_names[-1] == "ankle boot"
    assert data.train[0].image.size == (32, 32)
