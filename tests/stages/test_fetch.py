"""`stage=fetch` says what is missing and how large it is, fetches it, and no other stage does."""

import functools
import http.server
import io
import shutil
import threading
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sgid.config.compose import compose
from sgid.data.sources.download import DatasetInfo
from sgid.evaluation import lpips
from sgid.models.hub import as_size
from sgid.models.weights import MissingWeights
from sgid.stages.fetch import Need, fetch
from sgid.stages.preflight import needs
from tests.conftest import MODELS
from tests.data.writers import write_folder
from tests.end_to_end.command import Place
from tests.models.hub_server import Hub, serving
from tests.models.single_file import write_checkpoint

OPTIONS = ("models=sd15", "backbone=vit", "aug=sgid")
BUNDLED = {"captioner": "blip", "scorer": "clip", "generator": "sd", "backbone": "vit"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that has the bundled models under the names of the real ones."""
    config = compose(OPTIONS)
    sections = {name: getattr(config.models, name).weights for name in list(BUNDLED)[:3]}
    sections["backbone"] = config.backbone.weights
    with serving(Hub()) as hub:
        for name, weights in sections.items():
            hub.repositories[weights.id] = MODELS / BUNDLED[name]
            if weights.revision:
                hub.commits[weights.id] = weights.revision
        hub.patch(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def place(tmp_path):
    write_folder(tmp_path / "data" / "mine", {"red": 6, "blue": 6})
    return Place(tmp_path)


def test_all_that_a_run_needs_and_then_nothing_any_more(hub, place):
    run = functools.partial(place.run, "dataset=folder", f"dataset.root={place.top}/data/mine")
    asked = run(*OPTIONS, "stage=augment")
    assert asked.code == 1 and "4 things are missing" in asked.err and not hub.asked
    assert f"  python run.py stage=fetch dataset=folder dataset.root={place.top}" in asked.err
    fetched = run(*OPTIONS, "stage=fetch").good()
    vit = sum(file.stat().st_size for file in (MODELS / "vit").iterdir() if file.suffix != ".md")
    for option in ("models.captioner", "models.scorer", "models.generator", "backbone"):
        assert option in fetched.out
    for words in ("together", " free", "All of it is there", as_size(vit)):
        assert words in fetched.out
    assert f"python run.py dataset=folder dataset.root={place.top}" in fetched.out
    hub.asked.clear()
    again = run(*OPTIONS, "stage=fetch").good()
    assert not hub.asked and "together" not in again.out
    run(*OPTIONS, "stage=data").good()


def test_what_cannot_be_fetched_is_told_when_all_else_is_there(hub, place, monkeypatch):
    id = "timm/vit_base_patch16_224.augreg_in21k"
    del hub.repositories[id]
    given = ("dataset=cars", *OPTIONS, "stage=fetch", "models.scorer.weights.id=null")
    given += (f"models.scorer.weights.path={place.top}/none", "models.scorer.weights.revision=null")
    failed = place.run(*given)
    assert failed.code == 1 and "3 things are not fetched" in failed.err
    for words in ("Stanford Cars", f"no repository {id}", f"path={place.top}/none lacks"):
        assert words in failed.err
    assert {one.name for one in place.hub.iterdir() if one.name.startswith("models--")} == {
        "models--Salesforce--blip-image-captioning-large",
        "models--stable-diffusion-v1-5--stable-diffusion-v1-5",
    }


def test_advice_that_holds_for_several_things_is_given_once(hub, place, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    failed = place.run("dataset=cars", *OPTIONS, "stage=fetch")
    assert failed.code == 1 and "5 things are not fetched" in failed.err
    assert failed.err.count("127.0.0.1:9 cannot be reached for ") == 4
    assert failed.err.count("HF_ENDPOINT names a mirror") == 1


@pytest.mark.parametrize(
    ("given", "half"),
    [
        ((), []),
        (("trainer.device=cuda",), ["models.generator"]),
        (("models.generator.dtype=float16",), ["models.generator"]),
        (("trainer.device=cuda", "models.generator.dtype=bfloat16"), []),
        (("models.captioner.dtype=float16",), ["models.captioner"]),
        (("trainer.device=cuda", "models.scorer.dtype=float16"), ["models.generator"]),
    ],
)
def test_the_models_whose_float16_variant_is_fetched(given, half, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = needs(compose((*OPTIONS, "dataset=folder", *given)))
    assert [one.option for one in found if one.half] == half
    assert len(found) == 4


@pytest.mark.parametrize("aug", ["none", "flip_crop"])
def test_what_a_run_does_not_use_is_not_fetched(aug):
    assert needs(compose(("dataset=flowers", f"aug={aug}", "stage=fetch"))) == []


INFO = DatasetInfo("mine", "My set", size="12 MB", folder="mine", layout="ROOT/mine")


def images_at(root: Path):
    """A source of images that are fetched into a folder."""

    def images(download: bool):
        INFO.find(str(root), download=download, fetch=lambda place: (place / "mine").mkdir())

    return images


def say(*, weights=(), images=lambda _: None, root=None, lpips=False) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    fetch(images, root and str(root), list(weights), lpips=lpips, console=console)
    return console.export_text()


def test_images_come_from_their_own_source(tmp_path):
    text = say(images=images_at(tmp_path), root=tmp_path)
    assert "My set" in text and "12 MB" in text and f"{tmp_path}: " in text
    assert (tmp_path / "mine").is_dir()
    assert say(images=images_at(tmp_path), root=tmp_path) == ""
    (tmp_path / "mine").rmdir()
    with pytest.raises(FileNotFoundError, match="One thing is not fetched(.|\n)*not given"):
        say(images=lambda _: INFO.top(None))


def test_a_disk_that_is_too_small_is_told_before(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=23 * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FileNotFoundError, match="24 MB are needed in .* 23 MB are free"):
        say(images=images_at(tmp_path), root=tmp_path)
    assert not list(tmp_path.iterdir())


def missing():
    error = MissingWeights("missing")
    error.fetchable = True
    raise error


def test_weights_of_two_options_are_fetched_once(hub):
    id = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    twice = [Need(name, "open_clip", id, None, missing, half=False) for name in ("one", "other")]
    text = say(weights=twice)
    assert text.count(id) == 1 and "one, other" in text
    assert len([path for method, path, _ in hub.asked
                if method == "GET" and path.endswith(".safetensors")]) == 1  # fmt: skip


def test_of_a_checkpoint_in_one_file_the_configs_alone_are_fetched(hub, tmp_path):
    file = write_checkpoint(MODELS / "sd", tmp_path / "model.safetensors")
    config = compose((*OPTIONS, f"models.generator.weights.path={file}", "dataset=folder"))
    (need,) = (one for one in needs(config) if one.option == "models.generator")
    say(weights=[need])
    assert "unet/config.json" in hub.files()
    assert not [name for name in hub.files() if name.endswith(".safetensors")]
    assert need.look().file == file


def test_weights_that_have_moved_are_told(hub):
    old = "runwayml/stable-diffusion-v1-5"
    assert f"{old} has left the hub" in say(
        weights=[Need("models.generator", "diffusers", old, None, missing, half=False)]
    )


def test_the_weights_of_lpips(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    served = tmp_path / "served"
    served.mkdir()
    (served / "alexnet-9a129038.pth").write_bytes(b"weights")  # the start of their SHA-256
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/alexnet-"
    try:
        monkeypatch.setattr(lpips, "weights_url", lambda: f"{url}00000000.pth")
        with pytest.raises(FileNotFoundError, match=r"LPIPS: .*00000000.pth could not be fetched"):
            say(lpips=True)
        monkeypatch.setattr(lpips, "weights_url", lambda: f"{url}9a129038.pth")
        assert "AlexNet" in say(lpips=True) and lpips.weights_file().read_bytes() == b"weights"
        assert say(lpips=True) == ""
    finally:
        server.shutdown()
        server.server_close()
