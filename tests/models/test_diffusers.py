"""Pipelines are loaded from safetensors alone, in the format asked for, without code of theirs."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from sgid.models.diffusers import load, with_settings_of
from sgid.models.tensors import check_tensors
from tests.conftest import MODELS
from tests.generation import small_pipelines


def loaded(folder=MODELS / "sd", *, scheduler="own", dtype=torch.float32):
    return load(folder, scheduler=scheduler, device=torch.device("cpu"), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_loaded_in_the_format_asked_for(dtype):
    """As if they had been cast, which would take twice the memory."""
    whole, half = loaded(), loaded(dtype=dtype)
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(whole, part).to(dtype).state_dict()
        found = getattr(half, part).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_nothing_is_cast_after_loading(monkeypatch):
    asked = []
    original = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, *a, **k: asked.append((a, k)) or original(self, *a, **k)
    )
    loaded(dtype=torch.bfloat16)
    assert not any(isinstance(word, torch.dtype) for args, _ in asked for word in args)


def test_parts_that_are_null_and_parts_that_do_not_draw_are_left_out(tmp_path):
    folder = small_pipelines.write_sd3(tmp_path / "sd3")
    assert loaded(folder).text_encoder_3 is None
    folder = small_pipelines.write_sd(tmp_path / "sd")
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    small_pipelines.edit_index(folder, safety_checker=checker, requires_safety_checker=True)
    pipe = loaded(folder)
    assert pipe.safety_checker is None and not pipe.config.requires_safety_checker


def test_a_pickle_is_not_read(tmp_path):
    folder = small_pipelines.write_sd(tmp_path / "sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(diffusers.UNet2DConditionModel.from_pretrained(weights.parent).state_dict(),
               weights.with_suffix(".bin"))  # fmt: skip
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        loaded(folder)


@pytest.mark.parametrize(
    "name", ["NoSuchPipeline", "UNet2DConditionOutput", ["pipeline", "Own"], None]
)
def test_pipelines_that_diffusers_does_not_have(tmp_path, name):
    folder = small_pipelines.write_sd(tmp_path / "sd")
    small_pipelines.edit_index(folder, _class_name=name)
    with pytest.raises(ValueError, match=r"models.generator.weights: .*never run"):
        loaded(folder)


@pytest.mark.parametrize("place", ["pipeline.py", "unet/own.py"])
def test_code_that_comes_with_a_model_is_not_run(tmp_path, place):
    folder, ran = small_pipelines.write_sd(tmp_path / "sd"), tmp_path / "ran"
    (folder / place).write_text(f"open({str(ran)!r}, 'w')\nclass Own: ...\n")
    named = ["pipeline", "Own"] if place == "pipeline.py" else None
    small_pipelines.edit_index(
        folder, **({"_class_name": named} if named else {"unet": ["own", "Own"]})
    )
    with pytest.raises(ValueError, match="is never run|trust_remote_code"):
        loaded(folder)
    assert not ran.exists()


def test_schedulers():
    own = diffusers.DDIMScheduler(prediction_type="v_prediction", beta_end=0.013)
    assert with_settings_of(own, "own") is own
    assert with_settings_of(own, "DDIMScheduler") is own
    other = with_settings_of(own, "DPMSolverMultistepScheduler")
    assert isinstance(other, diffusers.DPMSolverMultistepScheduler)
    config = json.loads(other.to_json_string())
    assert (config["prediction_type"], config["beta_end"]) == ("v_prediction", 0.013)


@pytest.mark.parametrize("name", ["NoSuchScheduler", "UNet2DConditionModel"])
def test_unknown_schedulers(name):
    with pytest.raises(ValueError, match="cannot take the place .* own or one of DDPM"):
        with_settings_of(diffusers.DDIMScheduler(), name)


def test_flow_matching_keeps_its_own_scheduler():
    own = diffusers.FlowMatchEulerDiscreteScheduler()
    assert with_settings_of(own, "own") is own
    with pytest.raises(ValueError, match=r"nothing can take .* models.generator.scheduler=own"):
        with_settings_of(own, "DDIMScheduler")


def halved(folder: Path, *, parts=("unet", "vae", "text_encoder")) -> Path:
    """A pipeline of which parts have their weights in float16 alone."""
    for part in parts:
        (file,) = (folder / part).glob("*.safetensors")
        state = {name: one.half() for name, one in load_file(file).items()}
        save_file(state, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        file.unlink()
    return folder


@pytest.mark.parametrize("parts", [("unet",), ("unet", "vae", "text_encoder")])
def test_the_half_precision_variant_is_read_in_any_format(tmp_path, parts):
    folder = halved(small_pipelines.write_sd(tmp_path / "sd"), parts=parts)
    check_tensors(folder, "diffusers", "models.generator.weights")
    whole = loaded()
    for dtype in (torch.float32, torch.float16):
        pipe = loaded(folder, dtype=dtype)
        for part in ("unet", "vae", "text_encoder"):
            own = getattr(whole, part).state_dict()
            for name, found in getattr(pipe, part).state_dict().items():
                exact = own[name].half() if part in parts else own[name]
                assert found.dtype == dtype and torch.equal(found, exact.to(dtype))
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(OSError, match="safetensors"):
        loaded(folder)


def test_tensors_of_a_variant_are_checked(tmp_path):
    folder = halved(small_pipelines.write_sd(tmp_path / "sd"))
    file = folder / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    state = load_file(file)
    state.pop("decoder.conv_in.weight")
    save_file(state, file)
    with pytest.raises(ValueError, match=r"vae do not fit .* \(decoder.conv_in.weight\)"):
        check_tensors(folder, "diffusers", "models.generator.weights")
