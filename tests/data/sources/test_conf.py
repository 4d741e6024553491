"""The files of conf/dataset, and the bundled images."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sgid.config.schema import DatasetConfig
from sgid.data.decode import decode
from tests.data.writers import write_cars, write_folder

CONF = Path(__file__).parents[3] / "conf" / "dataset"


def source(name: str, download: bool = False, **options):
    """The source that `dataset=name` calls, with `options` given on the command line; with
    `download`, as stage=fetch calls it.
    """
    given = OmegaConf.load(CONF / f"{name}.yaml").dataset
    dataset = OmegaConf.merge(OmegaConf.structured(DatasetConfig), given, options)
    config = OmegaConf.create({"dataset": dataset, "paths": {"data": "data"}})
    if download:
        config.dataset.source.download = True
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


def test_fashion():
    parts = source("fashion").present()
    assert [len(part.keys) for part in parts.values()] == [5_000, 2_000, 10_000]
    train, validation, test = (
        {part.read(row) for row in range(len(part.keys))} for part in parts.values()
    )
    assert not train & test and not validation & test
    assert parts["train"].class_names[0] == "t-shirt"
    assert decode(parts["train"].read(0)).size == (32, 32)
