"""IP-Adapters and ControlNets of other models, and what is missing of them, are told."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sgid.config.schema import GeneratorConfig
from sgid.models.conditioning import (
    check_controlnet,
    check_ip_adapter,
    conditioning_identity,
    find_controlnet,
    find_image_encoder,
    find_ip_adapter,
    is_editor,
)
from sgid.models.tensors import check_tensors
from sgid.models.weights import MissingWeights
from tests.conftest import MODELS
from tests.generation.small_conditions import (
    write_controlnet,
    write_editor,
    write_image_encoder,
    write_ip_adapter,
)
from tests.generation.small_pipelines import edit_config, edit_unet, write_sdxl

SD = MODELS / "sd"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("made")
    write_image_encoder(top / "image_encoder")
    for kind in ("plain", "plus"):
        write_ip_adapter(top / f"{kind}.safetensors", SD, kind=kind)
    write_controlnet(top / "controlnet", SD)
    write_sdxl(top / "sdxl")
    return top


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_an_adapter_of_this_model_is_sound(made, kind):
    check_ip_adapter(made / f"{kind}.safetensors", made / "image_encoder", SD)
    assert find_ip_adapter(str(made / f"{kind}.safetensors")) == made / f"{kind}.safetensors"


def test_an_adapter_of_another_model_is_told(made):
    for kind in ("plain", "plus"):
        with pytest.raises(ValueError, match="made for another model than .*attention layers do "
                           r"not fit \(ip_adapter.1.to_k_ip.weight is 96 x 64, and the UNet "
                           "takes"):  # fmt: skip
            file = made / f"{kind}.safetensors"
            check_ip_adapter(file, made / "image_encoder", made / "sdxl")


@pytest.mark.parametrize(("kind", "width"), [("plain", 24), ("plus", 32)])
def test_another_image_encoder_is_told(made, tmp_path, kind, width):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    other = CLIPVisionConfig(
        hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        image_size=32, patch_size=8, projection_dim=48,
    )  # fmt: skip
    CLIPVisionModelWithProjection(other).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="gives 48 numbers for each image, and .* takes "
                       f"{width}: it was trained with another encoder"):  # fmt: skip
        check_ip_adapter(made / f"{kind}.safetensors", tmp_path, SD)
    shutil.copytree(MODELS / "vit", tmp_path / "vit")
    with pytest.raises(ValueError, match="holds no CLIPVisionModelWithProjection"):
        check_ip_adapter(made / f"{kind}.safetensors", tmp_path / "vit", SD)


def test_files_that_are_no_adapter_are_told(made, tmp_path):
    state = load_file(made / "plain.safetensors")
    save_file({"weight": state["image_proj.norm.bias"]}, tmp_path / "a.safetensors")
    face = {name: one for name, one in state.items() if name != "image_proj.proj.weight"}
    save_file(face, tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_text("a page of a web server")
    for name, said in (("a", "no IP-Adapter"), ("b", "embeddings of faces"), ("c", "no file of")):
        with pytest.raises(ValueError, match=said):
            check_ip_adapter(tmp_path / f"{name}.safetensors", made / "image_encoder", SD)


def test_what_is_missing_is_named_with_its_option(made, tmp_path):
    with pytest.raises(MissingWeights, match="pickles are not read"):
        find_ip_adapter("a.bin")
    with pytest.raises(MissingWeights, match="there is no such file. Give models.generator.ip_"):
        find_ip_adapter("a.safetensors")
    shutil.copy(made / "plain.safetensors", tmp_path)
    settings = GeneratorConfig(ip_adapter=str(tmp_path / "plain.safetensors"))
    with pytest.raises(MissingWeights, match="models.generator.image_encoder=null: .* lacks the "
                       "folder itself of the CLIP image encoder"):  # fmt: skip
        find_image_encoder(settings)
    (tmp_path / "image_encoder").mkdir()
    shutil.copy(made / "image_encoder" / "config.json", tmp_path / "image_encoder")
    with pytest.raises(MissingWeights, match="lacks model.safetensors of"):
        find_image_encoder(settings)
    settings.image_encoder = str(made / "image_encoder")
    assert find_image_encoder(settings) == made / "image_encoder"
    with pytest.raises(MissingWeights, match="controlnet=nowhere lacks the folder itself"):
        find_controlnet("nowhere")


def test_a_controlnet_of_this_model_is_sound_and_of_another_is_told(made, tmp_path):
    check_controlnet(find_controlnet(str(made / "controlnet")), SD)
    with pytest.raises(ValueError, match="made for another model than .*sdxl: "):
        check_controlnet(made / "controlnet", made / "sdxl")
    wider = tmp_path / "wider"
    shutil.copytree(SD, wider)
    edit_unet(wider, cross_attention_dim=80)
    with pytest.raises(ValueError, match="cross_attention_dim is 64, and the UNet's 80"):
        check_controlnet(made / "controlnet", wider)
    with pytest.raises(ValueError, match="halves edges 3 times, and the VAE images 2 times"):
        check_controlnet(write_controlnet(tmp_path / "deep", SD, halvings=3), SD)
    with pytest.raises(ValueError, match="holds a UNet2DConditionModel, not a ControlNetModel"):
        check_controlnet(SD / "unet", SD)
    shutil.copytree(made / "controlnet", tmp_path / "other")
    edit_config(tmp_path / "other" / "config.json", layers_per_block=2)
    with pytest.raises(ValueError, match="its weights do not fit its config"):
        check_controlnet(tmp_path / "other", SD)


def test_an_editor_takes_twice_the_channels(tmp_path):
    folder = write_editor(tmp_path / "editor")
    check_tensors(folder, "diffusers", "models.generator.weights")
    assert is_editor(folder) and not is_editor(SD)
    edit_unet(folder, in_channels=8)
    with pytest.raises(ValueError, match="to edit images .*takes 16 channels, and it takes 8"):
        check_tensors(folder, "diffusers", "models.generator.weights")


def test_identities_are_of_content(made, tmp_path):
    def identity(top: Path) -> dict:
        settings = GeneratorConfig(
            ip_adapter=str(top / "plain.safetensors"), controlnet=str(top / "controlnet")
        )
        return {one: conditioning_identity(one, settings) for one in ("ip_adapter", "controlnet")}

    shutil.copytree(made, tmp_path / "copy")
    own = identity(made)
    assert identity(tmp_path / "copy") == own
    config = tmp_path / "copy" / "image_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "note": 1}))
    assert identity(tmp_path / "copy")["ip_adapter"] != own["ip_adapter"]
    assert identity(tmp_path / "copy")["controlnet"] == own["controlnet"]
