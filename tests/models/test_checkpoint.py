"""Checkpoints in one file are loaded whole and without a network, or refused with what they are."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgid.models.diffusers import load
from sgid.models.lora import check_lora
from sgid.models.tensors import check_tensors, pipeline_shapes
from sgid.models.weights import MissingWeights, locate
from tests.conftest import MODELS
from tests.generation import small_pipelines
from tests.models.single_file import write_checkpoint
from tests.models.test_lora import write_lora

OPTION = "models.generator.weights"


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipeline(request, tmp_path_factory):
    """A pipeline's folder, and the same in one file."""
    top = tmp_path_factory.mktemp(request.param)
    if request.param == "sd":
        folder = small_pipelines.write_sd(top / "folder")
    else:
        folder = small_pipelines.write_sdxl(top / "folder", second=64)
    return folder, write_checkpoint(folder, top / "model.safetensors")


def configs(folder: Path, to: Path) -> Path:
    """The same folder without weights."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors")))


def found(file: Path, **where):
    return locate(layout="diffusers", option=OPTION, path=str(file), **where)


def refused(file: Path, **where) -> str:
    with pytest.raises(MissingWeights) as caught:
        found(file, **where)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_is_the_pipeline(pipeline, tmp_path, dtype):
    folder, file = pipeline
    own = configs(folder, tmp_path / "configs")
    given = {"scheduler": "own", "device": torch.device("cpu"), "dtype": dtype}
    one, other = load(folder, **given), load(own, checkpoint=file, **given)
    assert type(one) is type(other) and one.scheduler.config == other.scheduler.config
    for part, expected in one.components.items():
        if isinstance(expected, torch.nn.Module):
            states = expected.state_dict(), getattr(other, part).state_dict()
            assert states[0].keys() == states[1].keys()
            for name, tensor in states[0].items():
                assert states[1][name].dtype == dtype and torch.equal(tensor, states[1][name]), name


def test_every_tensor_is_accounted_for(pipeline, tmp_path):
    folder, file = pipeline
    own = configs(folder, tmp_path / "configs")
    check_tensors(own, "diffusers", OPTION, file)
    assert pipeline_shapes(own, file).parts.keys() == pipeline_shapes(folder).parts.keys()
    for change, said in (
        (lambda all: all.pop("model.diffusion_model.time_embed.2.bias"), "1 tensors not in the fi"),
        (lambda all: all.pop("first_stage_model.decoder.conv_in.weight"), "decoder.conv_in.weight"),
        (lambda all: all.update({"model.diffusion_model.more.weight": torch.zeros(2)}), "no use"),
        (lambda all: all.update({"another": torch.zeros(2)}), r"no use to the model \(another\)"),
    ):
        state = load_file(file)
        change(state)
        save_file(state, tmp_path / "changed.safetensors")
        with pytest.raises(ValueError, match=f"{OPTION}: the weights in .*{said}"):
            check_tensors(own, "diffusers", OPTION, tmp_path / "changed.safetensors")


def test_what_it_is_and_what_its_configs_say_is_its_identity(pipeline, tmp_path):
    folder, file = pipeline
    own = configs(folder, tmp_path / "configs")
    one = found(file, config=str(own))
    assert (one.folder, one.file) == (own, file)
    assert one.identity == found(file, config=str(folder)).identity  # weights there are not read
    copy = Path(shutil.copy(file, tmp_path / "copy.safetensors"))
    assert found(copy, config=str(own)).identity == one.identity
    write_checkpoint(folder, copy, betas=torch.ones(3))
    changed = found(copy, config=str(own)).identity
    assert changed["checkpoint"] != one.identity["checkpoint"]
    small_pipelines.edit_config(own / "scheduler" / "scheduler_config.json", beta_end=0.02)
    assert found(file, config=str(own)).identity["configs"] != one.identity["configs"]


def test_configs_come_from_the_snapshot_of_the_id(pipeline, tmp_path, monkeypatch):
    folder, file = pipeline
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    where = {"id": "owner/name", "revision": commit}
    with pytest.raises(MissingWeights) as caught:
        found(file, **where)
    assert caught.value.fetchable
    for words in ("configs, without weights", "stage=fetch", f"{OPTION}.config=FOLDER"):
        assert words in str(caught.value)
    snapshot = configs(folder, tmp_path / "hub" / "models--owner--name" / "snapshots" / commit)
    located = found(file, **where)
    assert located.folder == snapshot and "id" not in located.identity
    (snapshot / "vae" / "config.json").unlink()
    assert "lacks vae/config.json" in refused(file, **where)
    assert "lacks vae/config.json" in refused(file, config=str(snapshot))
    assert f"{OPTION}.id=OWNER/NAME, as models=sd15" in refused(file)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["unet.a.lora_A.weight"], "a LoRA, .* models.generator.lora="),
        (["lora_unet_a.lora_down.weight"], "a LoRA"),
        (["control_model.a", "model.a"], "a ControlNet"),
        (["encoder.a", "decoder.a"], "one part of a pipeline"),
        (["down_blocks.a", "up_blocks.a"], "one part of a pipeline"),
        (["string_to_param"], "a learned token"),
        (["conditioner.embedders.0.model.a", "model.a", "first_stage_model.a"], "the refiner"),
        (["first_stage_model.a"], "it has no UNet and no text encoder"),
        (["model.a", "cond_stage_model.a"], "it has no VAE"),
        (["model.a", "first_stage_model.a"], "it has no text encoder"),
    ],
)
def test_other_files_are_told(tmp_path, names, said):
    import re

    file = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)
    assert re.search(said, refused(file, config=str(MODELS / "sd")))


def test_files_that_are_none(pipeline, tmp_path):
    _, file = pipeline
    assert "no such file" in refused(tmp_path / "absent.safetensors", config=str(MODELS / "sd"))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-1])
    assert "damaged or cut off" in refused(cut, config=str(MODELS / "sd"))
    shutil.copy(file, tmp_path / "alone.safetensors")
    cut.unlink()
    assert f"such as {OPTION}.path={tmp_path}/alone.safetensors" in refused(tmp_path)
    with pytest.raises(ValueError, match="config=/x: of a checkpoint in one file"):
        locate(layout="diffusers", option=OPTION, path=str(tmp_path), config="/x")


def test_one_of_another_kind(tmp_path):
    xl = small_pipelines.write_sdxl(tmp_path / "xl", second=64)
    for folder, others, said in (
        (MODELS / "sd", xl, "a Stable Diffusion 1, and .* StableDiffusionXL.*models=sd15"),
        (xl, MODELS / "sd", "a Stable Diffusion XL, and .*take models=sdxl"),
    ):
        file = write_checkpoint(folder, tmp_path / "one.safetensors")
        with pytest.raises(ValueError, match=said):
            check_tensors(others, "diffusers", OPTION, file)
    state = load_file(write_checkpoint(MODELS / "sd", file))
    first = "model.diffusion_model.input_blocks.0.0.weight"
    state[first] = torch.zeros(48, 9, 3, 3)
    save_file(state, file)
    with pytest.raises(ValueError, match="takes 9 channels, .* made for inpainting"):
        check_tensors(MODELS / "sd", "diffusers", OPTION, file)


def test_a_lora_is_compared_with_it(tmp_path):
    file = write_checkpoint(MODELS / "sd", tmp_path / "one.safetensors")
    own = configs(MODELS / "sd", tmp_path / "configs")
    check_lora(write_lora(tmp_path / "a.safetensors", seed=0), own, "lora", file)
    other = write_lora(tmp_path / "b.safetensors", seed=0, layers=(("mid_block.x.to_k", 96, 64),))
    with pytest.raises(ValueError, match="made for another model"):
        check_lora(other, own, "lora", file)
