"""The wheel, in an environment and a folder of its own: whole, and nothing else in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

import sgid
from sgid.config.compose import CONF
from sgid.runtime.terminal import program
from tests.data.writers import write_folder
from tests.end_to_end.command import ROOT, SHORT

SOURCES = ("sgid", "conf", "hydra_plugins", "experiments", "tests")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
JUNK = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since building leaves folders beside the sources."""
    top = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(ROOT / name, top / name, ignore=JUNK)
    for name in FILES:
        shutil.copy(ROOT / name, top)
    line = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    subprocess.run(line, cwd=top, check=True, capture_output=True, timeout=300)
    (built,) = (top / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """Its `bin`: libraries are those of this environment, sgid is the wheel's."""
    top = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top)], check=True)
    python = top / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    # Only the folder itself is added: the links that editable installs leave in it are not read.
    libraries = Path(done.stdout.strip()) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    pip += ["--no-index", "--disable-pip-version-check", "--ignore-installed", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    return top / "bin"


def test_it_holds_the_package_and_its_choices_and_nothing_else(wheel):
    with ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        (points,) = (file.read(one) for one in file.namelist() if one.endswith("entry_points.txt"))
    there = {
        f"{inside}/{path.relative_to(folder).as_posix()}"
        for inside, folder in (
            ("sgid", Path(sgid.__file__).parent),
            ("sgid/conf", CONF),
            ("hydra_plugins", ROOT / "hydra_plugins"),
        )
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == there
    assert b"sgid = sgid.__main__:run" in points


def test_the_plain_install_has_no_tools_of_developers(wheel):
    with ZipFile(wheel) as file:
        (about,) = (file.read(one).decode() for one in file.namelist() if one.endswith("/METADATA"))
    needed = [line for line in about.splitlines() if line.startswith("Requires-Dist")]
    plain = {line.split()[1].partition(">")[0] for line in needed if "extra ==" not in line}
    assert {"torch", "diffusers", "hydra-core"} <= plain
    assert not plain & {"pytest", "ruff", "basedpyright", "build", "ray", "wandb", "pandas"}
    for minor in range(11, 15):
        assert f"Classifier: Programming Language :: Python :: 3.{minor}" in about


def sgid_says(environment: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(environment / "sgid"), *words],
        cwd=folder, env=own, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_a_sweep_with_a_choice_of_ones_own_runs_in_an_empty_folder(environment, tmp_path):
    """As a user of the wheel has it; the whole of a run, at the bundled scale."""
    choice = tmp_path / "my" / "aug" / "sketch.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(
        "sketch:\n  slot: offline\n  prompt: a sketch of a {label}\n  from_image: true\n"
        "  strength: 0.5\n"
        "  guidance: {_target_: sgid.methods.guidance.fixed, _partial_: true, scale: 2.0}\n"
    )
    root = write_folder(tmp_path / "images", {"bag": 6, "coat": 6}, size=32)
    small = (f"dataset.root={root}", "models=tiny", "backbone=small_resnet", *SHORT)
    words = ("-m", "--config-dir", "my", "aug=sketch", "dataset=folder", *small)
    done = sgid_says(environment, tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {"my", "images", "artifacts", "results", "outputs"}
    (report,) = tmp_path.glob("results/*/report.html")
    text = report.read_text()
    assert "sgid --config-dir my aug=sketch" in text and "python run.py" not in text


def test_help_names_the_command_and_the_choices_of_the_package(environment, tmp_path):
    done = sgid_says(environment, tmp_path, "--help")
    assert done.returncode == 0
    assert "  sgid dataset=cars backbone=vit aug=sgid " in done.stdout
    assert "python run.py" not in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("More: "))
    conf = Path(line.removeprefix("More: ").partition("/<group>")[0])
    assert conf.is_relative_to(environment.parent) and (conf / "aug" / "sgid.yaml").is_file()


@pytest.mark.parametrize(
    ("called", "name"),
    [("/usr/bin/sgid", "sgid"), ("run.py", "python run.py"), ("-c", "python run.py")],
)
def test_messages_say_the_command_that_was_typed(monkeypatch, called, name):
    monkeypatch.setattr("sys.argv", [called])
    assert program() == name


def test_windows_is_refused_with_what_to_do(monkeypatch, capsys):
    from sgid.cli import main

    monkeypatch.setattr("sys.platform", "win32")
    assert main() == 1
    assert "WSL 2" in capsys.readouterr().err
