"""What the pages say is so: links lead somewhere, commands are accepted, the file tree is true."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.paper.__main__ import read
from sgid.config.compose import CONF, compose
from sgid.config.help import option_names
from sgid.stages.validation import invalid_options
from tests.docs.pages import (
    PAGES,
    README,
    ROOT,
    WRITTEN,
    anchors,
    commands,
    links,
    snippets,
    tree,
)

COMMANDS = {
    " ".join(words): words
    for page in WRITTEN
    for words in commands(page)
    if not any(word.endswith(("=NAME", ".NAME")) for word in words)  # any of a kind
}
RUNS = [line for line in COMMANDS if line.startswith("python run.py")]
MODULES = [line for line in COMMANDS if line.startswith("python -m ")]


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("pages")
    for path, text in snippets(*WRITTEN).items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, encoding="utf-8")
    return top / "my"


def each_value(option: str) -> list[str]:
    """The options that a sweep makes of one: `seed=0,1` is `seed=0` and `seed=1`."""
    (parsed,) = OverridesParser.create().parse_overrides([option])
    if not parsed.is_sweep_override():
        return [option]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


@pytest.mark.parametrize("line", RUNS)
def test_a_run_is_composed_and_within_the_limits(line, mine):
    words = COMMANDS[line][2:]
    options = [word for word in words if "=" in word]
    flags = [word for word in words if "=" not in word]
    if "--config-dir" in flags:
        flags = [flag for flag in flags if flag not in ("--config-dir", "my")]
        options.append(f"hydra.searchpath=[{mine}]")
    assert set(flags) <= {"-m", "--help"}
    sweeps = [each_value(option) for option in options]
    assert "-m" in flags or all(len(values) == 1 for values in sweeps), "a sweep needs -m"
    for values in {tuple(values[which] for values in sweeps) for which in (0, -1)}:
        assert invalid_options(compose(values)) == []


@pytest.mark.parametrize("line", MODULES)
def test_a_module_that_is_called_is_there(line):
    module = COMMANDS[line][2]
    found = importlib.util.find_spec(module)
    assert found, f"there is no {module}"
    if found.submodule_search_locations:
        assert importlib.util.find_spec(f"{module}.__main__"), f"{module} cannot be called"


@pytest.mark.parametrize("line", [line for line in MODULES if "experiments.paper" in line])
def test_experiments_scales_and_options_of_the_paper_exist(line):
    words = iter(COMMANDS[line][3:])
    typed = []
    for word in words:
        if word in ("--processes", "--output"):
            next(words)
        elif not word.startswith("--") and word != "NAME":  # any of them
            typed.append(word)
    _, _, options = read(typed)
    compose(options)


def test_a_target_that_is_made_is_in_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {words[1] for words in COMMANDS.values() if words[0] == "make" and len(words) > 1}
    assert {"demo", "setup"} <= asked
    assert asked <= targets


def test_the_commands_of_the_first_screen_are_found():
    """So that a change of the pages' form does not leave this test with nothing to do."""
    assert len(RUNS) > 25
    assert "python run.py dataset=folder dataset.root=DIR aug=sgid" in RUNS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert set(WRITTEN) - {README, index} <= linked


def test_the_options_of_the_table_exist():
    names = option_names(CONF)
    rows = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/options.md").read_text(), re.MULTILINE)
    assert len(rows) > 10
    assert [row for row in rows if row not in names] == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_choices_that_the_text_names_exist(page):
    """`aug=cutmix` in the text is a file, of the project's or of the page's own snippets."""
    shown = {tuple(Path(path).with_suffix("").parts[-2:]) for path in snippets(*WRITTEN)}
    groups = "|".join(sorted(folder.name for folder in CONF.iterdir() if folder.is_dir()))
    for group, name in re.findall(rf"(?<![\w.])({groups})=(\w+)", page.read_text()):
        if name.isupper():  # a placeholder
            continue
        assert (CONF / group / f"{name}.yaml").is_file() or (group, name) in shown, (
            f"{page.name}: {group}={name}"
        )


def tracked() -> set[str]:
    """The files of the project; results that a user has put beside them are none of it."""
    command = ["git", "ls-files"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return {path for path in done.stdout.splitlines() if (ROOT / path).is_file()}


def test_the_file_tree_names_what_is_there_and_nothing_else():
    paths, named = tracked(), tree()
    for folder in ("", "sgid"):
        top = f"{folder}/" if folder else ""
        inside = [path.removeprefix(top) for path in paths if path.startswith(top)]
        there = {f"{path.partition('/')[0]}/" if "/" in path else path for path in inside}
        shown = {name for name in there if not name.startswith((".", "__init__"))}
        assert set(named[folder]) == shown, f"the README's tree of {folder or 'the top'}"


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 220
