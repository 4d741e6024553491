"""Weights are found where they may lie, or the message says what is missing and how to get it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sgid.models.weights import LAYOUTS, MissingWeights, content_hash, locate, weight_files

OPTION = "models.scorer.weights"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# A pipeline with one part of each sort, and with those that are not loaded.
INDEX = {
    "_class_name": "SomePipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "prior_image_processor": ["transformers", "CLIPImageProcessor"],
    "movq": ["diffusers", "VQModel"],
    "text_encoder_3": [None, None],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "requires_safety_checker": True,
    "sizes": [1, 2],
}
FILES = {
    **LAYOUTS,
    "diffusers": (
        ("model_index.json",),
        ("scheduler/scheduler_config.json",),
        ("tokenizer/vocab.json",),
        ("text_encoder/config.json",),
        ("text_encoder/model.safetensors",),
        ("unet/config.json",),
        ("unet/diffusion_pytorch_model.safetensors",),
        ("prior_image_processor/preprocessor_config.json",),
        ("movq/config.json",),
        ("movq/diffusion_pytorch_model.safetensors",),
    ),
}


def write(folder: Path, layout: str) -> Path:
    """The first alternative of each file of a layout."""
    for name, *_ in FILES[layout]:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            save_file({"a": torch.zeros(3), "b": torch.ones(2, 2)}, file)
        else:
            file.write_text(json.dumps(INDEX) if name == "model_index.json" else "{}")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--owner--name"


def missing(**where) -> str:
    with pytest.raises(MissingWeights) as caught:
        locate(option=OPTION, **where)
    return str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_by_path(layout, tmp_path):
    folder = write(tmp_path / "model", layout)
    located = locate(layout=layout, option=OPTION, path=str(folder))
    assert located.folder == folder
    assert located.identity == {"layout": layout, "content": content_hash(folder)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_file_that_is_missing_is_named(layout, tmp_path):
    for number, (name, *_) in enumerate(FILES[layout]):
        folder = write(tmp_path / str(number), layout)
        (folder / name).unlink()
        assert name in missing(layout=layout, path=str(folder))


def test_pickles_do_not_count(tmp_path):
    folder = write(tmp_path, "diffusers") / "text_encoder"
    (folder / "model.safetensors").rename(folder / "model.bin")
    said = "text_encoder/model.safetensors (only model.bin, which is not read)"
    assert said in missing(layout="diffusers", path=str(tmp_path))


@pytest.mark.parametrize("layout", ["diffusers", "blip"])
@pytest.mark.parametrize("where", ["path", "id"])
def test_the_half_precision_variant_is_read_where_the_full_weights_are_not(
    hub, tmp_path, layout, where
):
    folder = write(hub / "snapshots" / COMMIT if where == "id" else tmp_path / "m", layout)
    full = sorted(folder.rglob("*.safetensors"))
    place = {"path": str(folder)} if where == "path" else {"id": "owner/name", "revision": COMMIT}
    given = {"layout": layout, "option": OPTION, **place}
    before = locate(**given)
    for file in full:
        shutil.copy(file, file.with_suffix(".fp16.safetensors"))
    assert "variant" not in locate(**given).identity  # of both the full ones are read
    full[0].unlink()
    located = locate(**given)
    assert located.identity["variant"] == "fp16" and located.identity != before.identity
    half = full[0].with_suffix(".fp16.safetensors")
    assert weight_files(half.parent, full[0].name, "fp16") == [half]
    half.write_bytes(half.read_bytes()[:-1])
    assert f"{half.name} as a whole: it is damaged" in missing(layout=layout, **place)


@pytest.mark.parametrize("layout", ["open_clip", "timm"])
def test_a_variant_of_a_library_that_knows_none(tmp_path, layout):
    (file,) = write(tmp_path, layout).glob("*.safetensors")
    file.rename(file.with_suffix(".fp16.safetensors"))
    text = missing(layout=layout, path=str(tmp_path))
    assert f"lacks {file.name}" in text or f" or {file.name}" in text


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"{"])
def test_a_pipeline_without_an_index(tmp_path, content):
    (write(tmp_path, "diffusers") / "model_index.json").write_bytes(content)
    assert "lacks model_index.json" in missing(layout="diffusers", path=str(tmp_path))


def test_the_words_of_a_tokenizer_are_content(tmp_path):
    folder = write(tmp_path, "diffusers")
    before = content_hash(folder)
    (folder / "tokenizer" / "spiece.model").write_bytes(b"words")
    assert content_hash(folder) != before


def test_the_content_decides_not_the_place(tmp_path):
    one, two = write(tmp_path / "one", "blip"), write(tmp_path / "two", "blip")
    assert content_hash(one) == content_hash(two)
    (two / "README.md").write_text("not read by any model")
    assert content_hash(one) == content_hash(two)
    (two / "config.json").write_text('{"changed": 1}')
    assert content_hash(one) != content_hash(two)


def test_a_linked_folder_is_content(tmp_path):
    folder = write(tmp_path / "model", "diffusers")
    (folder / "unet").rename(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save_file({"a": torch.ones(3)}, tmp_path / "b" / "diffusion_pytorch_model.safetensors")
    hashes = []
    for target in ("a", "b"):
        (folder / "unet").unlink(missing_ok=True)
        (folder / "unet").symlink_to(tmp_path / target)
        hashes.append(content_hash(folder))
    assert hashes[0] != hashes[1]
    (folder / "up").symlink_to(folder)  # which ends
    assert content_hash(folder) == hashes[1]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("openai/clip-vit", f"it is a repository of the hub, say {OPTION}.id=openai/clip-vit"),
        ("/no/such", "lacks the folder itself"),
        ("model.ckpt", "a pickle, which is not read"),
    ],
)
def test_a_path_that_is_no_folder(path, said):
    text = missing(layout="open_clip", path=path)
    assert said in text and ("hub" in text) == ("hub" in said)


def test_a_dead_link_is_called_one(tmp_path):
    file = write(tmp_path, "open_clip") / "open_clip_model.safetensors"
    file.unlink()
    file.symlink_to("../../blobs/0123")
    assert "a link to ../../blobs/0123, which is not there" in missing(
        layout="open_clip", path=str(tmp_path)
    )


def test_shards_in_place_of_one_file(tmp_path):
    folder = write(tmp_path, "diffusers")
    unet = folder / "unet"
    whole = unet / "diffusion_pytorch_model.safetensors"
    parts = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    whole.rename(unet / parts[0])
    index = {"weight_map": {"a": parts[0], "b": parts[1]}}
    (unet / f"{whole.name}.index.json").write_text(json.dumps(index))
    assert f"lacks unet/{parts[1]}." in missing(layout="diffusers", path=str(folder))
    save_file({"b": torch.zeros(1)}, unet / parts[1])
    assert locate(layout="diffusers", option=OPTION, path=str(folder)).folder == folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open_clip_model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:"),
        ("open_clip_model.safetensors", b""),
        ("open_clip_config.json", b'{"model_cfg": '),
    ],
)
def test_damaged_files_are_not_there(tmp_path, name, content):
    folder = write(tmp_path, "open_clip")
    (folder / name).write_bytes(content)
    assert f"{name} as a whole" in missing(layout="open_clip", path=str(folder))


def test_a_file_that_is_cut_off(tmp_path):
    file = write(tmp_path, "timm") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "cut off" in missing(layout="timm", path=str(tmp_path))


def test_a_snapshot_in_the_hubs_cache(hub):
    snapshot = write(hub / "snapshots" / COMMIT, "timm")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(COMMIT)
    for revision in (None, "main", COMMIT):
        located = locate(layout="timm", option=OPTION, id="owner/name", revision=revision)
        assert located.folder == snapshot
        # The commit, not the branch: what a branch points to changes.
        assert located.identity == {"layout": "timm", "id": "owner/name", "revision": COMMIT}
    assert "owner/name at v2: not in the hub cache" in missing(
        layout="timm", id="owner/name", revision="v2"
    )
    (snapshot / "model.safetensors").unlink()
    assert "lacks model.safetensors" in missing(layout="timm", id="owner/name")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_that_fetches_what_is_missing(layout, hub):
    with pytest.raises(MissingWeights) as caught:
        locate(layout=layout, option=OPTION, id="owner/name", revision=COMMIT)
    assert caught.value.fetchable and f"{OPTION}.path=FOLDER" in str(caught.value)
    assert "python run.py stage=fetch" in str(caught.value)


def test_what_no_place_can_be_looked_for():
    with pytest.raises(ValueError, match="models.scorer.weights.path=FOLDER"):
        locate(layout="timm", option=OPTION)
    with pytest.raises(ValueError, match=r"both path=/ and id=a/b; set .*weights.path=null"):
        locate(layout="timm", option=OPTION, path="/", id="a/b")
    with pytest.raises(ValueError, match="layout=foo: unknown; one of blip, open_clip"):
        locate(layout="foo", option=OPTION, path="/")
