"""Weights that do not fit are refused from their headers, with what they are."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgid.models.tensors import check_once, check_tensors
from sgid.models.weights import Weights

BUNDLED = Path(str(files("sgid") / "assets" / "models"))
OPTION = "models.x.weights"
PLACES = {
    "blip": ("blip", "", "model.safetensors"),
    "clip": ("open_clip", "", "open_clip_model.safetensors"),
    "text encoder": ("diffusers", "text_encoder", "model.safetensors"),
    "unet": ("diffusers", "unet", "diffusion_pytorch_model.safetensors"),
    "vae": ("diffusers", "vae", "diffusion_pytorch_model.safetensors"),
}
FOLDERS = {"blip": "blip", "open_clip": "clip", "diffusers": "sd"}


@pytest.fixture
def copy(tmp_path):
    """From a layout to a copy of the bundled model that may be changed."""

    def make(layout: str) -> Path:
        return Path(shutil.copytree(BUNDLED / FOLDERS[layout], tmp_path / layout))

    return make


def refused(folder: Path, layout: str) -> str:
    with pytest.raises(ValueError, match=OPTION) as caught:
        check_tensors(folder, layout, OPTION)
    return str(caught.value)


def change(file: Path, by) -> None:
    changed = by(load_file(file))
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, file)


def edit(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("layout", FOLDERS)
def test_the_bundled_models_fit(layout, caplog):
    check_tensors(BUNDLED / FOLDERS[layout], layout, OPTION)
    assert not caplog.records


CHANGES = {
    "prefix": lambda all: {f"module.{name}": one for name, one in all.items()},
    "other names": lambda all: {f"{name}_x": one for name, one in all.items()},
    "one gone": lambda all: dict(list(all.items())[1:]),
    "other shape": lambda all: {**all, next(iter(all)): torch.zeros(3, 5, 7)},
}
WORDS = {
    "prefix": "begin with 'module.', of torch's DataParallel",
    "other names": "and of no use to the model",
    "one gone": "1 tensors not in the file, so that they would be random",
    "other shape": "of another shape",
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("place", PLACES)
def test_every_tensor_of_every_part_counts(place, how, copy):
    layout, part, name = PLACES[place]
    folder = copy(layout)
    change(folder / part / name, CHANGES[how])
    said = refused(folder, layout)
    assert WORDS[how] in said and str(folder / part) in said


def test_older_names_and_prefixes_are_those_of_the_same_model(copy):
    """As they are in the files of Stable Diffusion 1.5 on the hub."""
    folder = copy("diffusers")

    def text(all):
        return {f"text_model.{name}": one for name, one in all.items()} | {
            "text_model.embeddings.position_ids": torch.zeros(1, 77)
        }

    def vae(all):
        new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        old = {}
        for name, one in all.items():
            for own, before in new.items():
                name = name.replace(own, before) if "attentions" in name else name
            old[name] = one
        return old

    change(folder / "text_encoder" / "model.safetensors", text)
    change(folder / "vae" / "diffusion_pytorch_model.safetensors", vae)
    check_tensors(folder, "diffusers", OPTION)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"architectures": ["BlipForImageTextRetrieval"]}, "holds a BlipForImageTextRetrieval"),
        ({"model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"]}, "(blip-2)"),
    ],
)
def test_a_model_of_the_same_family_for_another_task(values, said, copy):
    folder = copy("blip")
    edit(folder / "config.json", **values)
    assert said in (text := refused(folder, "blip"))
    assert f"{OPTION}.id=Salesforce/blip-image-captioning-large" in text


def test_a_unet_for_inpainting(copy):
    folder = copy("diffusers")
    edit(folder / "unet" / "config.json", in_channels=9)

    def widen(all):
        first = all["conv_in.weight"]
        return {**all, "conv_in.weight": torch.zeros(first.shape[0], 9, *first.shape[2:])}

    change(folder / "unet" / "diffusion_pytorch_model.safetensors", widen)
    assert "made for inpainting" in refused(folder, "diffusers")


def test_a_clip_without_its_normalisation_is_said(copy, caplog):
    folder = copy("open_clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    del config["preprocess_cfg"]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    check_tensors(folder, "open_clip", OPTION)
    assert "names no mean and std" in caplog.text


def test_weights_that_fit_are_looked_at_once(copy, tmp_path):
    folder, seen = copy("open_clip"), tmp_path / "new" / "checked.json"
    weights = Weights(folder, {"content": "a"})
    check_once(weights, "open_clip", OPTION, remembered=seen)
    change(folder / "open_clip_model.safetensors", CHANGES["one gone"])
    check_once(weights, "open_clip", OPTION, remembered=seen)
    for _ in range(2):
        with pytest.raises(ValueError, match="would be random"):
            check_once(Weights(folder, {"content": "b"}), "open_clip", OPTION, remembered=seen)
