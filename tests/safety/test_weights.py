"""Weights are safetensors, and a model's folder brings no code: neither pickles nor modules run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sgid.weights import LAYOUTS, MissingWeights, locate
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
    ],
)
def test_code_that_comes_with_a_diffusion_model_is_not_run(part, says, tmp_path, mark, own, place):
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
