"""`_target_` calls what belongs in its place, and a stranger's code only if that was asked for."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from sgid.compose import CONF, compose
from sgid.fingerprint import fingerprint
from sgid.targets import PLACES, refuse_files, refused
from tests.end_to_end.command import ROOT, SHORT

EVIL = [
    ("dataset.source", "os.system"),
    ("dataset.source", "sgid.data.sources.home.shutil.rmtree"),
    ("dataset.source", "sgid.stores.files.write_atomic"),
    ("backbone.model", "torch.hub.load"),
    ("backbone.model", "sgid.training.fit.os.system"),
    ("backbone.optimizer", "torch.load"),
    ("backbone.optimizer", "torch.optim.adamw.torch.load"),
    ("backbone.optimizer", "torch.optim"),
    ("models.captioner", "transformers.pipeline"),
    ("models.generator", "sgid.generation.engine._private"),
    ("guidance", "builtins.exec"),
    ("aug.x.guidance", "sgid.semantics.captions.BlipCaptioner"),
    ("aug.x.transform", "torchvision.datasets.CIFAR10"),
    ("aug.x.transform", "torch.utils.cpp_extension.load"),
    ("filter", "subprocess.run"),
    ("logger", "sgid"),
    ("logger", "sgid.reporting.wandb_log"),
    ("trainer.workers", "sgid.training.fit.fit"),
    ("hydra.callbacks.x", "os.system"),
]


def evil(folder: Path, name: str, text: str) -> list[str]:
    """A choice in a folder of a stranger's; the options that add the folder."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return [f"hydra.searchpath=[{folder}]"]


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
    """Each function and class in the modules that may be named is the library's own, or harmless.

    What a module imports is in it too: `from os import system` would be within reach.
    """
    harmless = {"collections", "collections.abc", "contextlib", "dataclasses", "functools", "math"}
    harmless |= {"pathlib", "textwrap", "typing", "numpy", "torch", "PIL.Image"}
    harmless |= {"importlib.resources._common"}
    seen = 0
    for pattern in {module for modules in PLACES.values() for module in modules}:
        for module in _modules(pattern):
            for name, one in inspect.getmembers(module, callable):
                own = getattr(one, "__module__", None) or type(one).__module__
                if not name.startswith("_") and own not in harmless:
                    fits = f"{own}.".startswith(BELONG[pattern.partition(".")[0]])
                    assert fits, (module.__name__, name, own)
                    assert not own.startswith("sgid.stores.files"), (module, name)
                    seen += 1
    assert seen > 200


BELONG = {
    "sgid": ("sgid.", "hydra.core", "omegaconf."),
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


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("aug/x.yaml", "# @package _global_\nallow_targets: [os]\n", "only the command line can"),
        ("aug/x.yaml", "x: {allow_targets: [os]}\n", "only the command line can"),
        (
            "experiment/x.yaml",
            "# @package _global_\nhydra: {callbacks: {x: {_target_: os.system}}}\n",
            "_target_=os.system: not called",
        ),
        ("aug/x.yaml", "# @package hydra.callbacks\nx: {_target_: os.system}\n", "os.system"),
        ("hydra/launcher/x.yaml", "_target_: os.system\n", "speaks to Hydra itself"),
        ("hydra/launcher/x.yaml", "_target_: ${y}\ny: os.system\n", "only be known when"),
        ("aug/.hidden/x.yaml", '"\\x68ydra": {x: {_target_: os.system}}\n', "os.system"),
        ("aug/x.yaml", "a: [", "cannot be read"),
    ],
)
def test_what_files_say_to_hydra_is_looked_at_before_it_reads_them(tmp_path, name, text, said):
    own = evil(tmp_path / "theirs", name, text)
    folder = tmp_path / "theirs"
    quoted = [f'hydra.searchpath=["{folder}"]']
    for options in (own, ["--config-dir", str(folder)], [f"--config-dir={folder}"], quoted):
        with pytest.raises(ValueError, match="x.yaml") as caught:
            refuse_files(options)
        assert said in str(caught.value)


def test_a_folder_of_ones_own_that_allows_nothing_is_taken(tmp_path):
    own = evil(tmp_path / "mine", "filter/x.yaml", "_target_: my.filters.sure\n")
    refuse_files(own)  # it may not be chosen: what is, is looked at when it is composed
    evil(tmp_path / "mine", "experiment/x.yaml", "# @package _global_\nhydra: {verbose: true}\n")
    with pytest.raises(ValueError, match=r"x.yaml.*speaks to Hydra") as caught:
        refuse_files(own)
    assert "allow_targets=[my]" in str(caught.value)
    refuse_files([*own, "allow_targets=[my]"])
    (tmp_path / "mine" / "loop").symlink_to(tmp_path / "mine")
    refuse_files([*own, "allow_targets=[my]"])


def test_a_command_with_a_strangers_folder_runs_none_of_its_code(place, tmp_path, stranger, mark):
    evil(tmp_path / "theirs", "filter/nice.yaml", f"_target_: {stranger}.run\n")
    flags = ("--config-dir", str(tmp_path / "theirs"))
    flags += (*SHORT, "stage=data")  # which is soon over, if it is begun
    failed = place.run(*flags, "filter=nice")
    assert failed.code == 1 and "allow_targets=[stranger]" in failed.err
    assert "Traceback" not in failed.text
    text = f"# @package _global_\nhydra: {{callbacks: {{x: {{_target_: {stranger}.run}}}}}}\n"
    evil(tmp_path / "theirs", "experiment/nice.yaml", text)
    failed = place.run(*flags, "experiment=nice")
    assert failed.code == 1 and "allow_targets=[stranger]" in failed.err
    assert not mark.exists() and stranger not in sys.modules and not place.files()


@pytest.fixture(scope="module")
def made(tmp_path_factory, own):
    """A run without generated images, and one with them."""
    from tests.end_to_end.command import Place

    place = Place(tmp_path_factory.mktemp("made"))
    place.run(*own, "aug=flip_crop").good()
    place.run(*own, "aug=sgid", "stage=augment").good()
    return place


def test_a_strangers_store_runs_no_code(made, own, tmp_path, stranger, mark):
    """A store's `spec.json` says its guidance map, as the config does."""
    (store,) = made.artifacts.glob("generated/*")
    spec = json.loads((store / "spec.json").read_text())
    spec |= {"guidance": {"_target_": f"{stranger}.run"}, "source": "elsewhere"}
    theirs = shutil.copytree(store, tmp_path / "generated" / fingerprint(spec))
    (theirs / "spec.json").write_text(json.dumps(spec))
    asked = ("stage=evaluate", f"evaluation.images={theirs}")
    failed = made.run(*own, *asked)
    assert failed.code == 1 and "spec.json: guidance._target_=stranger.run" in failed.err
    assert not mark.exists()
    made.run(*own, *asked, f"allow_targets=[{stranger}]")
    assert mark.exists(), "the test shows nothing: the store's guidance map is not made at all"


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
