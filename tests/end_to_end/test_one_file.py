"""A run with its generator in one file, as checkpoints are shared, and in little memory."""

import pyarrow.parquet as pq

from tests.conftest import MODELS
from tests.end_to_end.command import SHORT
from tests.models.single_file import write_checkpoint


def test_a_checkpoint_in_one_file_draws_the_same_images(place, tmp_path):
    file = write_checkpoint(MODELS / "sd", tmp_path / "model.safetensors")
    given = ("stage=augment", "dataset.shots=1", *SHORT)
    place.run(*given).good()
    own = f"models.generator.weights.path={file}"
    refused = place.run(*given, own)
    assert refused.code == 1 and "one file has no configs" in refused.err
    own = (own, f"models.generator.weights.config={MODELS / 'sd'}", "models.generator.memory=low")
    said = place.run(*given, *own).good()
    assert "memory=low: on cpu the VAE takes an image at a time" in said.text
    stores = sorted(place.artifacts.glob("generated/*"))
    images = [
        [row["bytes"] for row in pq.read_table(one / "part-00000.parquet")["image"].to_pylist()]
        for one in stores
    ]
    assert len(stores) == 2 and images[0] == images[1]
