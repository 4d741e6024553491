"""`_target_` calls what belongs in its place, and a stranger's code only if that was asked for."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import pytest
import yaml

from sgid.config.compose import CONF, compose
from sgid.config.targets import PLACES, _is_called, refused
from tests.end_to_end.command import ROOT, SHORT
from tests.safety.sources import evil

EVIL = [
    ("dataset.source", "os.system"),
    ("dataset.source", "sgid.data.sources.download.shutil.rmtree"),
    ("dataset.source", "sgid.runtime.files.write_atomic"),
    ("dataset.source", "sgid.data.sources.bundled.files"),  # imports what it is told to
    ("dataset.source", "sgid.data.sources.download.Path"),
    ("dataset.source", "sgid.data.sources.not_there.run"),
    ("backbone.optimizer", "torch.optim.lr_scheduler"),
    ("backbone.optimizer", "timm.optim.create_optimizer_v2"),
    ("backbone.model", "torch.hub.load"),
    ("backbone.model", "sgid.training.trainer.os.system"),
    ("backbone.optimizer", "torch.load"),
    ("backbone.optimizer", "torch.optim.adamw.torch.load"),
    ("backbone.optimizer", "torch.optim"),
    ("models.captioner", "transformers.pipeline"),
    ("models.generator", "sgid.generation.stable_diffusion._private"),
    ("guidance", "builtins.exec"),
    ("aug.x.target", "sgid.stages.run.prepare"),
    ("aug.x.prepare", "subprocess.run"),
    ("aug.x.guidance", "sgid.models.blip.BlipCaptioner"),
    ("aug.x.transform", "torchvision.datasets.CIFAR10"),
    ("aug.x.transform", "torch.utils.cpp_extension.load"),
    ("filter", "subprocess.run"),
    ("logger", "sgid"),
    ("logger", "sgid.reporting.wandb"),
    ("trainer.workers", "sgid.training.trainer.fit"),
    ("hydra.callbacks.x", "os.system"),
]


@pytest.mark.parametrize(("place", "target"), EVIL)
def test_what_does_not_belong_in_a_place_is_refused(place, target):
    (line,) = refused({"_target_": target}, place)
    assert line.startswith(f"{place}._target_={target}: not called")
    assert f"allow_targets=[{target.partition('.')[0]}]" in line
    for hidden in ({"a": [{"b": {"_target_": target}}]}, [[{"_target_": target, "_args_": []}]]):
        assert len(refused(hidden, place)) == 1


def test_what_the_user_names_is_called_and_nothing_that_looks_alike():
    for target, allowed in (("my.maps.steep", True), ("mystery.maps.steep", False)):
        assert (refused({"_target_": target}, "guidance", ["my"]) == []) is allowed
    own = {"_target_": "my.maps.steep"}
    assert refused(own, "guidance", ["my.maps.steep"]) == []
    assert refused(own, "guidance", ["my.maps.ste"]) and refused(own, "guidance", ["my.maps.flat"])
    assert refused({"_target_": "my"}, "guidance", ["my"])
    assert refused({"_target_": "my.${oc.env:HOME}"}, "guidance", ["my"])


def test_every_target_of_the_choices_belongs_where_it_is():
    found = 0
    for file in CONF.glob("[!h]*/*.yaml"):  # hydra/ is Hydra's to call
        text = file.read_text(encoding="utf-8")
        inner = "@package _global_" in text or file.parent == CONF
        place = "" if inner else file.parent.relative_to(CONF).as_posix().replace("/", ".")
        targets = _only_targets(yaml.safe_load(text))
        targets.pop("hydra", None)  # our own, and Hydra's to call
        assert refused(targets, place) == [], file
        found += "_target_" in str(targets)
    assert found > 30


def _only_targets(value):
    """The same without texts: interpolations are resolved before they are looked at."""
    if isinstance(value, dict):
        return {
            key: inner if key == "_target_" else _only_targets(inner)
            for key, inner in value.items()
            if isinstance(inner, dict | list) or key == "_target_"
        }
    return [_only_targets(inner) for inner in value] if isinstance(value, list) else None


def test_nothing_of_other_libraries_can_be_reached_through_what_is_allowed():
    """What a module imports is in it too: `from os import system` would be within reach."""
    seen: dict[str, int] = {}
    for pattern in {module for modules in PLACES.values() for module in modules}:
        library = pattern.partition(".")[0]
        for module in _modules(pattern):
            for name, one in inspect.getmembers(module):
                if _is_called(f"{module.__name__}.{name}", [pattern], []):
                    own = one.__module__
                    assert callable(one), (module.__name__, name)
                    if library == "sgid":
                        assert own == module.__name__, name
                    assert f"{own}.".startswith(BELONG[library]), (module.__name__, name, own)
                    seen[library] = seen.get(library, 0) + 1
    assert min(seen.values()) > 10 and set(seen) == set(BELONG), "the test shows nothing"


def test_no_library_is_imported_to_look_at_targets():
    """Theirs are told by name, ours by their source: the command's first second hangs on it."""
    asked = {"_target_": "torch.optim.AdamW"}, {"_target_": "sgid.data.sources.cifar.cifar10"}
    code = "import sys; from sgid.config.targets import refused\n"
    code += f"assert not refused({asked[0]}, 'backbone.optimizer')\n"
    code += f"assert not refused({asked[1]}, 'dataset.source')\n"
    code += "assert not {'torch', 'sgid.data.sources.cifar'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


BELONG = {
    "sgid": ("sgid.",),
    "torch": ("torch.optim.",),
    "timm": ("timm.optim.", "torch.optim."),
    "torchvision": ("torchvision.transforms.",),
}


def _modules(pattern):
    if not pattern.endswith(".*"):
        return [importlib.import_module(pattern)]
    top = importlib.import_module(pattern.removesuffix(".*"))
    return [
        importlib.import_module(f"{top.__name__}.{found.name}")
        for found in pkgutil.iter_modules(top.__path__)
    ]


def test_a_strangers_choice_is_refused_before_its_code_is_imported(tmp_path, stranger, mark):
    text = f"_target_: {stranger}.run\n"
    own = evil(tmp_path / "theirs", "filter/nice.yaml", text)
    with pytest.raises(ValueError, match=r"filter\._target_=stranger\.run.*allow_targets=\[str"):
        compose([*own, "filter=nice"])
    assert not mark.exists()
    assert compose([*own, "filter=nice", f"allow_targets=[{stranger}]"]).filter


def test_a_target_behind_an_interpolation_is_refused(tmp_path):
    """What is escaped stays text until Hydra makes the object, and then is resolved once more."""
    text = r"""
x:
  slot: online
  transform:
    _target_: torchvision.transforms.Compose
    transforms: '\${oc.create:[{_target_: os.system, command: id}]}'
"""
    own = evil(tmp_path / "theirs", "aug/x.yaml", text)
    with pytest.raises(ValueError, match=r"aug\.x\.transform\.transforms=\$\{oc\.create.*only be"):
        compose([*own, "aug=x"])


def test_a_command_with_a_strangers_folder_runs_none_of_its_code(place, tmp_path, stranger, mark):
    evil(tmp_path / "theirs", "filter/nice.yaml", f"_target_: {stranger}.run\n")
    flags = ("--config-dir", str(tmp_path / "theirs"))
    flags += (*SHORT, "stage=data")  # which is soon over, if it is begun
    failed = place.run(*flags, "filter=nice")
    assert failed.code == 1 and "allow_targets=[stranger]" in failed.err
    assert "Traceback" not in failed.text
    assert not mark.exists() and stranger not in sys.modules and not place.files()


@pytest.fixture(scope="module")
def made(tmp_path_factory, own):
    """A run without generated images, and one with them."""
    from tests.end_to_end.command import Place

    place = Place(tmp_path_factory.mktemp("made"))
    place.run(*own, "aug=flip_crop").good()
    place.run(*own, "aug=sgid", "stage=augment").good()
    return place


def test_a_strangers_result_runs_no_code(made, own, tmp_path, stranger, mark):
    """A judge is made of the options that its run was started with."""
    result = made.result()
    result["overrides"] += [
        f"backbone.model._target_={stranger}.run",
        f"allow_targets=[{stranger}]",
        f"hydra.searchpath=[{ROOT}]",
    ]
    theirs = tmp_path / "theirs"
    (theirs / "checkpoints").mkdir(parents=True)
    (theirs / "checkpoints" / "best.ckpt").touch()
    (theirs / "result.json").write_text(json.dumps(result))
    failed = made.run(*own, "aug=sgid", f"evaluation.classifier={theirs}")
    assert failed.code == 1 and "backbone.model._target_=stranger.run: not" in failed.err
    assert not mark.exists()
