"""LoRAs of files: what is added to the weights, and that files of other models are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgid.models.diffusers import load
from sgid.models.lora import check_lora, find_lora, merge, restore
from sgid.models.weights import MissingWeights
from sgid.records import Adapter
from sgid.runtime.terminal import quiet_generation
from tests.conftest import MODELS
from tests.generation.small_pipelines import write_sdxl

UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT = "encoder.layers.0.self_attn.q_proj"


def write_lora(
    file: Path, *, seed: int, rank: int = 4, layers=((UNET, 96, 64),), text=True
) -> Path:
    """A LoRA of layers (name, out, in) of the UNet, and of one of the bundled text encoder."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, out, inner in layers:
        state[f"unet.{name}.lora_A.weight"] = torch.randn(rank, inner, generator=draw)
        state[f"unet.{name}.lora_B.weight"] = torch.randn(out, rank, generator=draw)
    if text:
        name = f"text_encoder.text_model.{TEXT}.lora_linear_layer"
        state[f"{name}.down.weight"] = torch.randn(rank, 64, generator=draw)
        state[f"{name}.up.weight"] = torch.randn(64, rank, generator=draw)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file)
    return file


@pytest.fixture(scope="module")
def pipe():
    quiet_generation()
    place = {"device": torch.device("cpu"), "dtype": torch.float32}
    return load(MODELS / "sd", scheduler="own", **place)


def weights(pipe) -> dict[str, torch.Tensor]:
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    return {
        f"{part}.{name.replace('text_model.', '')}": one.clone()
        for part, module in parts.items()
        for name, one in module.state_dict().items()
    }


def test_several_loras_are_added_with_their_scales_and_taken_out_bit_for_bit(pipe, tmp_path):
    before = weights(pipe)
    files = [write_lora(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (1, 2)]
    saved = merge(pipe, [Adapter(files[0], 0.5), Adapter(files[1], 2.0)])
    after = weights(pipe)
    assert after.keys() == before.keys()  # no module of peft is left
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {f"unet.{UNET}.weight", f"text_encoder.{TEXT}.weight"}
    states = [load_file(file) for file in files]
    delta = sum(
        scale * state[f"unet.{UNET}.lora_B.weight"] @ state[f"unet.{UNET}.lora_A.weight"]
        for scale, state in zip((0.5, 2.0), states, strict=True)
    )
    expected = before[f"unet.{UNET}.weight"] + delta
    assert torch.allclose(after[f"unet.{UNET}.weight"], expected, atol=1e-5)
    name = f"text_encoder.text_model.{TEXT}.lora_linear_layer"
    delta = sum(
        scale * state[f"{name}.up.weight"] @ state[f"{name}.down.weight"]
        for scale, state in zip((0.5, 2.0), states, strict=True)
    )
    expected = before[f"text_encoder.{TEXT}.weight"] + delta
    assert torch.allclose(after[f"text_encoder.{TEXT}.weight"], expected, atol=1e-5)
    restore(saved)
    restored = weights(pipe)
    assert all(torch.equal(restored[name], one) for name, one in before.items())


def test_a_lora_of_this_model_is_sound(tmp_path):
    check_lora(
        write_lora(tmp_path / "a.safetensors", seed=0), MODELS / "sd", "models.generator.lora"
    )


def test_a_lora_of_another_model_is_told(tmp_path):
    with pytest.raises(
        ValueError, match=f"made for another model .*unet.{UNET} is 96 x 64, and the LoRA 320 x 768"
    ):
        other = write_lora(tmp_path / "a.safetensors", seed=0, layers=((UNET, 320, 768),))
        check_lora(other, MODELS / "sd", "models.generator.lora")
    with pytest.raises(ValueError, match="1 of its 2 layers do not fit .*is not there"):
        other = write_lora(
            tmp_path / "b.safetensors", seed=0, layers=(("mid_block.x.to_k", 96, 64),)
        )
        check_lora(other, MODELS / "sd", "models.generator.lora")
    xl = write_sdxl(tmp_path / "xl")
    with pytest.raises(ValueError, match="made for another model"):
        check_lora(write_lora(tmp_path / "c.safetensors", seed=0), xl, "models.generator.lora")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.pt", "must be a file of safetensors"),
        ("absent.safetensors", "there is no such file"),
    ],
)
def test_a_file_that_is_none(tmp_path, name, message):
    with pytest.raises(MissingWeights, match=message):
        find_lora(str(tmp_path / name), "models.generator.lora")


def test_a_file_of_other_tensors_is_told(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="no LoRA"):
        check_lora(tmp_path / "a.safetensors", MODELS / "sd", "models.generator.lora")
