"""Folders that a command line adds to `conf/` are looked at before Hydra does what they say."""

from __future__ import annotations

import os
import re

import pytest
from omegaconf import OmegaConf

from sgid.config.compose import MAX_BYTES, compose, refuse_files, refuse_flags
from sgid.config.help import own_folders
from tests.safety.sources import evil

GLOBAL = "# @package _global_\n"
TRUSTED = "allow_targets=[hydra]"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("experiment/x.yaml", f"{GLOBAL}hydra: {{callbacks: {{x: {{_target_: os.system}}}}}}\n"),
        ("experiment/x.yaml", f"{GLOBAL}hydra: {{job_logging: {{x: {{'()': os.system}}}}}}\n"),
        ("experiment/x.yaml", f"{GLOBAL}hydra: {{launcher: {{setup: [id]}}}}\n"),
        ("experiment/x.yaml", f"{GLOBAL}hydra: {{job: {{name: x, env_set: {{A: b}}}}}}\n"),
        ("experiment/x.yaml", f"{GLOBAL}hydra: ${{y}}\ny: {{launcher: {{setup: [id]}}}}\n"),
        ("experiment/x.yaml", f"{GLOBAL}hydra:\n sweeper:\n  params: ${{y}}\ny: {{}}\n"),
        (
            "experiment/x.yaml",
            f"{GLOBAL}hydra: {{sweeper: {{params: {{+hydra.job.env_set.A: b}}}}}}",
        ),
        ("experiment/x.yaml", f"{GLOBAL}y: &y {{hydra: {{launcher: {{a: b}}}}}}\n<<: *y\n"),
        ("experiment/x.yaml", f"{GLOBAL}hydra: {{run: &a {{b: *a}}}}\n"),
        ("experiment/x.yaml", "defaults: [override /hydra/launcher: mine]\n"),
        ("experiment/x.yaml", "defaults: [/aug/y@hydra.launcher]\n"),
        ("aug/x.yaml", "# @package hydra.callbacks\nx: {_target_: os.system}\n"),
        ("aug/x.yaml", "\n  # @package hydra.callbacks\nx: {_target_: os.system}\n"),
        ("aug/x.yaml", "   #@package   hydra\nlauncher: {setup: [id]}\n"),
        ("aug/.hidden/x.yaml", '"\\x68ydra": {launcher: {setup: [id]}}\n'),
        ("hydra/launcher/x.yaml", "_target_: os.system\n"),
        # Not what the reader of YAML may make of it, but what Hydra does: this is no date there.
        ("aug/x.yaml", f"{GLOBAL}day: 2026-99-99\nhydra: {{launcher: {{setup: [id]}}}}\n"),
    ],
)
def test_a_file_that_speaks_to_hydra_is_refused_unless_that_was_asked_for(tmp_path, name, text):
    folder = tmp_path / "theirs"
    own = evil(folder, name, text)
    quoted = [f'hydra.searchpath=["{folder}"]']
    flags = [["--config-dir", str(folder)], [f"--config-d={folder}"], ["-cd", str(folder)]]
    for options in (own, quoted, *flags, [f"++{own[0]}"], [f"+{own[0]}"]):
        with pytest.raises(ValueError, match=r"x\.yaml speaks to Hydra itself") as caught:
            refuse_files(options)
        assert TRUSTED in str(caught.value)
        refuse_files([*options, TRUSTED])


def test_plain_data_for_hydra_is_taken(tmp_path):
    """A quick experiment says where it writes and what a sweep is of."""
    text = """
hydra:
  mode: MULTIRUN
  verbose: true
  job: {name: mine}
  run: {dir: "${oc.env:HOME}/runs"}
  sweep: {dir: sweeps}
  sweeper: {params: {seed: "0,1", noise_rate: "0.3,0.5"}}
"""
    refuse_files(evil(tmp_path, "experiment/x.yaml", GLOBAL + text))
    evil(tmp_path, "dataset/flowers.yaml", "noun: hydrangea\nnote: like a hydra\n")
    refuse_files([f"hydra.searchpath=[{tmp_path}]"])


@pytest.mark.parametrize(
    "text",
    [
        f"{GLOBAL}allow_targets: [os]\n",
        "x: {allow_targets: [os]}\n",
        f"{GLOBAL}hydra: {{sweeper: {{params: {{++allow_targets: '[os]'}}}}}}\n",
    ],
)
def test_no_file_allows_what_it_names_itself(tmp_path, text):
    own = evil(tmp_path, "aug/x.yaml", text)
    for options in (own, [*own, TRUSTED]):
        with pytest.raises(ValueError, match=r"x\.yaml says allow_targets: only the command line"):
            refuse_files(options)


def test_what_hydra_cannot_read_as_a_config_is_passed_over(tmp_path, no_hang):
    own = evil(tmp_path, "k8s.yaml", "kind: Pod\n---\nkind: Service\nhydra: {a: b}\n")
    evil(tmp_path, "aug/broken.yaml", "hydra: [")
    (tmp_path / "aug" / "latin.yaml").write_bytes(b"hydra: {a: caf\xe9}\n")
    for name in ("k8s", "aug/broken", "aug/latin"):
        with pytest.raises(Exception):  # noqa: B017  each in a way of its own
            OmegaConf.load(tmp_path / f"{name}.yaml")
    refuse_files(own)
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    evil(tmp_path, "aug/bomb.yaml", f"hydra: {{verbose: true}}\na0: &a0 x\n{bomb}")
    refuse_files(own)  # 9 ** 29 texts, were they counted


@pytest.fixture
def no_hang():
    """A pipe that is opened waits for its other end: the test fails instead."""
    import signal

    def late(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["pipe", "device", "long"])
def test_what_is_no_ordinary_file_is_refused_where_hydra_would_read_it(tmp_path, no_hang, kind):
    (tmp_path / "data").mkdir()
    own = evil(tmp_path, "aug/y.yaml", "# nothing\n")

    def make(path):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.write_text(f"{GLOBAL}{'#' * MAX_BYTES}\n")

    make(tmp_path / "data" / "x.yaml")
    (tmp_path / "aug" / ".#y.yaml").symlink_to("nobody@nowhere")  # as Emacs leaves them
    refuse_files(own)
    evil(tmp_path, "aug/y.yaml", "defaults: [/data/x]\n")
    with pytest.raises(ValueError, match=r"y\.yaml builds on it: .*data/x\.yaml cannot be looked"):
        refuse_files(own)
    evil(tmp_path, "aug/y.yaml", "# nothing\n")
    make(tmp_path / "aug" / "x.yaml")
    with pytest.raises(ValueError, match=r"aug/x\.yaml cannot be looked at"):
        refuse_files(own)


def test_a_linked_folder_is_not_entered(tmp_path):
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    evil(elsewhere, "x.yaml", "# @package hydra.launcher\nsetup: [id]\n")
    own = evil(mine, "aug/y.yaml", "# nothing\n")
    (mine / "data").symlink_to(elsewhere)
    (mine / "root").symlink_to("/")  # which would take minutes
    (mine / "loop").symlink_to(mine)
    refuse_files(own)
    evil(mine, "aug/y.yaml", "defaults: [/data/x]\n")
    with pytest.raises(ValueError, match=r"y\.yaml builds on it: .*mine/data cannot be looked at"):
        refuse_files(own)
    evil(mine, "aug/y.yaml", "# nothing\n")
    for link, target in (("guidance", elsewhere), ("hydra", mine / "aug"), ("aug/z", mine)):
        (mine / link).symlink_to(target)
        with pytest.raises(ValueError, match=rf"mine/{link} cannot be looked at"):
            refuse_files(own)
        (mine / link).unlink()


def test_a_list_is_asked_for_and_taken():
    with pytest.raises(ValueError, match=re.escape("say allow_targets=[my]")):
        compose(["allow_targets=my"])
    assert compose(["allow_targets=[my.transforms.Posterize]"]).allow_targets


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config-path=x"], "--config-dir DIR"),
        (["--config-p", "x"], "--config-dir DIR"),
        (["-cp", "x"], "--config-dir DIR"),
        (["--config-n=x"], "--config-dir DIR"),
        (["-cn=x"], "--config-dir DIR"),
        (["--experimental-rerun", "config.pickle"], "pickle"),
        (["--e=config.pickle"], "pickle"),
    ],
)
def test_flags_that_have_hydra_read_other_files_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        refuse_flags(words)
    refuse_flags(["--config-dir", "my", "-m", "--cfg", "job", "-c", "seed=0,1"])


def test_a_folder_is_found_however_the_command_line_says_it(tmp_path):
    for words in (
        ["--config-di", str(tmp_path)], [f"--config-d={tmp_path}"], [f"-cd={tmp_path}"],
        [f"+hydra.searchpath=['file://{tmp_path}']"], ["-m", "--config-dir", str(tmp_path)],
    ):  # fmt: skip
        assert own_folders(words) == [tmp_path], words
    assert own_folders(["hydra.searchpath=[", "--cfg", str(tmp_path)]) == []


def test_the_command_says_no(place):
    failed = place.run("--config-na=other")
    assert failed.code == 1 and "--config-dir DIR" in failed.err and "Traceback" not in failed.text
