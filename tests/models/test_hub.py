"""Of a repository the files that are loaded are fetched, resumed after a kill, and nothing else."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from sgid.models import hub as hubs
from sgid.models.hub import Unfetchable, as_size, find_repository, of_size
from sgid.models.weights import locate
from tests.models.hub_server import COMMIT, Hub, serving
from tests.models.test_weights import FILES, write

ID = "owner/name"
OPTION = "models.generator.weights"
UNREAD = (
    "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "safety_checker/model.safetensors", "v1-5-pruned.safetensors", "README.md", "onnx/model.onnx",
    "flax_model.msgpack", "text_encoder/pytorch_model.bin", "pytorch_model.bin",
)  # fmt: skip


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub with nothing on it; the cache is empty."""
    with serving(Hub()) as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        hub.patch(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def model(served, tmp_path):
    """From a layout to a repository of it, with much that is never read."""

    def make(layout, id=ID):
        folder = write(tmp_path / "remote" / id, layout)
        for name in UNREAD:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"unread")
        served.repositories[id] = folder
        return folder

    return make


def fetched(id=ID, revision=None, layout="diffusers", *, half=False):
    repository = find_repository(id, revision, layout, half=half)
    steps = []
    repository.fetch(steps.append)
    return repository, sum(steps)


@pytest.mark.parametrize("layout", FILES)
@pytest.mark.parametrize("revision", [None, COMMIT])
def test_what_is_loaded_is_fetched_and_nothing_else(model, served, layout, revision):
    model(layout)
    repository, _ = fetched(layout=layout, revision=revision)
    names = [name for name, *_ in FILES[layout]]
    assert {one.name for one in repository.files} == set(names)
    assert served.files() == set(names)
    located = locate(layout=layout, option=OPTION, id=ID, revision=revision)
    assert located.identity == {"layout": layout, "id": ID, "revision": COMMIT}
    assert repository.there == repository.size > 0
    served.asked.clear()
    again, bytes_fetched = fetched(layout=layout, revision=revision)
    assert again.files == repository.files and bytes_fetched == 0 and not served.files("GET")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("there", ["full", "half", "both"])
def test_the_variant_that_is_chosen(model, served, half, there):
    unet = model("diffusers") / "unet"
    plain = unet / "diffusion_pytorch_model.safetensors"
    variant = unet / "diffusion_pytorch_model.fp16.safetensors"
    save_file({"a": torch.zeros(3).half(), "b": torch.ones(2, 2).half()}, variant)
    if there == "half":
        plain.unlink()
    if there == "full":
        variant.unlink()
    repository, _ = fetched(half=half)
    chosen = there == "half" or (there == "both" and half)
    assert repository.variant == ("fp16" if chosen else None)
    assert (f"unet/{variant.name}" in served.files()) == chosen
    assert (f"unet/{plain.name}" in served.files()) == (not chosen)
    assert locate(layout="diffusers", option=OPTION, id=ID).identity.get("variant") == (
        "fp16" if chosen else None
    )


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_are_fetched_by_their_index(model, served, variant):
    unet = model("diffusers") / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    dot = f".{variant}" if variant else ""
    shards = [f"diffusion_pytorch_model{dot}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for key, name in zip("ab", shards, strict=True):
        save_file({key: torch.zeros(1)}, unet / name)
    index = unet / f"diffusion_pytorch_model.safetensors.index{dot}.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}))
    fetched(half=variant is not None)
    assert {f"unet/{one}" for one in [*shards, index.name]} <= served.files()
    assert locate(layout="diffusers", option=OPTION, id=ID).identity.get("variant") == variant


KILLED = """
import sys
from sgid.models.hub import find_repository
print("begun", flush=True)
find_repository("owner/name", None, "timm", half=False).fetch(lambda _: None)
"""


def test_a_fetch_that_is_killed_goes_on_within_the_file(model, served, tmp_path):
    folder = model("timm")
    save_file({"a": torch.arange(3_000_000)}, folder / "model.safetensors")
    served.break_at = 23_000_000
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": served.url}
    environment["HF_HUB_CACHE"] = str(tmp_path / "cache")
    with subprocess.Popen([sys.executable, "-c", KILLED], env=environment) as process:
        assert served.sent.wait(120)
        repository = find_repository(ID, None, "timm", half=False)
        while repository.there < 10_000_000:  # what is sent is written in pieces of that
            assert process.poll() is None
        process.kill()
    half, served.break_at = repository.there, None
    served.asked.clear()
    assert fetched(layout="timm")[1] == repository.size - half
    assert not [*repository.folder.rglob("*.incomplete"), *repository.folder.rglob("*.lock")]
    assert f"bytes={half}-" in {given for _, _, given in served.asked}
    assert locate(layout="timm", option=OPTION, id=ID)


def test_what_comes_damaged_is_not_kept(model, served):
    model("timm")
    served.damage = True
    with pytest.raises(Unfetchable, match=r"model.safetensors of owner/name came damaged"):
        fetched(layout="timm")
    served.damage = False
    fetched(layout="timm")
    assert locate(layout="timm", option=OPTION, id=ID)


def test_a_repository_that_has_moved(model, served, caplog):
    old, new = "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"
    model("diffusers", new)
    repository, _ = fetched(old)
    assert repository.id == new
    with caplog.at_level("INFO"):
        located = locate(layout="diffusers", option=OPTION, id=old)
    assert located.identity["id"] == new and f"has moved to {new}" in caplog.text


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("unknown", "has no repository owner/other that you may read"),
        ("revision", "owner/name has no revision v9"),
        ("gated", "owner/name is gated: accept its licence at"),
        ("403", "with status 403; `hf auth login`"),
        ("500", "with status 500"),
        ("gone", "cannot be reached"),
        ("offline", "HF_HUB_OFFLINE=1 forbids it"),
        ("pickle", r"text_encoder/model.safetensors \(only text_encoder/pytorch_model.bin"),
    ],
)
def test_each_refusal_is_one_message(model, served, monkeypatch, refusal, said):
    folder = model("diffusers")
    id, revision = "owner/other" if refusal == "unknown" else ID, None
    match refusal:
        case "revision":
            revision = "v9"
        case "gated":
            served.gated.add(ID)
        case "403" | "500":
            served.status = int(refusal)
        case "gone":
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        case "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        case "pickle":
            (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(Unfetchable, match=said) as caught:
        fetched(id, revision)
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up(model, served, monkeypatch):
    model("timm")
    repository = find_repository(ID, None, "timm", half=False)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(Unfetchable, match="cache is full: free some, or .* HF_HUB_CACHE=DIR"):
        repository.fetch(lambda _: None)


def test_what_is_there_needs_no_server(model, served):
    model("timm")
    repository, _ = fetched(layout="timm", revision=COMMIT)
    shutil.rmtree(served.repositories[ID])
    hubs.Repository.fetch(repository, lambda _: None)


@pytest.mark.parametrize("text", ["7 B", "31 MB", "1.2 GB", "5.0 GB", "2.0 TB"])
def test_sizes_are_read_as_they_are_written(text):
    assert as_size(of_size(text)) == text
