"""Weights are safetensors, and a model's folder brings no code: neither pickles nor modules run."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from sgid.models.clip import clip_tokenizer
from sgid.models.weights import LAYOUTS, MissingWeights, locate
from tests.conftest import MODELS

PICKLES = ("pytorch_model.bin", "model.ckpt", "open_clip_pytorch_model.bin", "weights.pt")
FOLDERS = {"blip": "blip", "open_clip": "clip", "timm": "clip", "diffusers": "sd"}


def copy(layout: str, to: Path) -> Path:
    return shutil.copytree(MODELS / FOLDERS[layout], to)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_folder_with_pickles_alone_is_refused(layout, tmp_path, bomb, mark):
    folder = copy(layout, tmp_path / "theirs")
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
        for name in (*PICKLES, "diffusion_pytorch_model.bin"):
            (weights.parent / name).write_bytes(bomb)
    with pytest.raises(MissingWeights, match="safetensors") as caught:
        locate(layout=layout, option="models.x.weights", path=str(folder))
    assert "which is not read" in str(caught.value) and "models.x.weights" in str(caught.value)
    assert not mark.exists()


def test_pickles_beside_the_weights_are_never_read(tmp_path, bomb, mark, own, place):
    options = []
    for model, layout in (
        ("captioner", "blip"), ("scorer", "open_clip"), ("generator", "diffusers")
    ):  # fmt: skip
        folder = copy(layout, tmp_path / model)
        for weights in [*folder.rglob("*.safetensors")]:
            for name in (*PICKLES, "diffusion_pytorch_model.bin"):
                (weights.parent / name).write_bytes(bomb)
        options.append(f"models.{model}.weights.path={folder}")
    place.run(*own, *options, "aug=sgid", "stage=augment").good()
    assert not mark.exists()


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("pipeline", {"_class_name": ["theirs", "Pipeline"]}),
        ("unet", {"unet": ["theirs", "Model"]}),
        ("scheduler", {"scheduler": ["theirs", "Model"]}),
        ("nowhere", {"vae": ["stranger", "Model"]}),
    ],
)
def test_code_that_comes_with_a_diffusion_model_is_not_run(
    part, says, tmp_path, mark, own, place, stranger
):
    folder = copy("diffusers", tmp_path / "sd")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | says))
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Model: pass\n"
    for where in (folder, folder / "unet", folder / "scheduler"):
        (where / "theirs.py").write_text(code)
    failed = place.run(*own, f"models.generator.weights.path={folder}", "aug=sgid", "stage=augment")
    assert not mark.exists()
    assert failed.code == 1 and "Traceback" not in failed.text, failed.text
    assert "models.generator.weights" in failed.err


def test_parts_of_diffusers_own_pipelines_are_known(tmp_path):
    folder = copy("diffusers", tmp_path / "sd")
    index = folder / "model_index.json"
    said = json.loads(index.read_text())
    said["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]  # as 1.5 has it
    said["unet"] = ["stable_diffusion", "UNet"]
    index.write_text(json.dumps(said))
    locate(layout="diffusers", option="o", path=str(folder))
    index.write_text(json.dumps(said | {"unet": ["../pipelines/stable_diffusion", "UNet"]}))
    with pytest.raises(ValueError, match="o: .* has its unet made by .*; change o"):
        locate(layout="diffusers", option="o", path=str(folder))


def hostile_clip(folder: Path, mark: Path, **words) -> Path:
    """A CLIP whose tokenizer is made by code that lies beside it."""
    copy("open_clip", folder)
    config = folder / "open_clip_config.json"
    said = json.loads(config.read_text())
    said["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "x", "tokenizer_kwargs": words}
    config.write_text(json.dumps(said))
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    code += "from transformers import PreTrainedTokenizerFast\n"
    (folder / "theirs.py").write_text(f"{code}class T(PreTrainedTokenizerFast): pass\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    tokenizer = {"auto_map": {"AutoTokenizer": ["theirs.T", "theirs.T"]}, "tokenizer_class": "T"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Where transformers copies what it runs, for this test alone."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))


def test_code_that_comes_with_a_clip_is_not_run(tmp_path, mark, modules):
    import open_clip

    folder = hostile_clip(tmp_path / "clip", mark, trust_remote_code=True)
    for layout in ("open_clip", "timm"):
        with pytest.raises(ValueError, match="o: .*open_clip_config.json has trust_remote_code"):
            locate(layout=layout, option="o", path=str(folder))
    with suppress(Exception):  # it may be made by transformers' own class instead
        clip_tokenizer(folder)
    assert not mark.exists()
    open_clip.get_tokenizer(f"local-dir:{folder}")
    assert mark.exists(), "the test shows nothing: open_clip does not run it either"


def test_both_tokenizers_of_open_clip_are_made(tmp_path):
    texts = ["a photo of a coat"]
    assert clip_tokenizer(MODELS / "clip")(texts).shape == (1, 32)
    folder = copy("open_clip", tmp_path / "own")
    said = json.loads((folder / "open_clip_config.json").read_text())
    del said["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    assert clip_tokenizer(folder)(texts).shape == (1, 32)


def test_code_that_comes_with_a_captioner_is_not_run(tmp_path, mark, own, place):
    folder = copy("blip", tmp_path / "blip")
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Theirs: pass\n"
    (folder / "theirs.py").write_text(code)
    names = ("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor")
    for file in folder.glob("*.json"):
        if isinstance(said := json.loads(file.read_text()), dict) and file.stem != "tokenizer":
            said["auto_map"] = {name: "theirs.Theirs" for name in names}
            file.write_text(json.dumps(said))
    place.run(*own, f"models.captioner.weights.path={folder}", "aug=sgid", "stage=augment").good()
    assert not mark.exists()
