"""`--help`, and messages about options and YAML files, with the nearest right name."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sgid.runtime.terminal import program

USAGE = """\
SGID: augment labelled images with a diffusion model steered by each image's label and caption,
train a classifier on originals plus generated images, and say whether it helped.

  python run.py                                        the bundled images and models, on a CPU
  python run.py dataset=folder dataset.root=DIR        your own images, DIR/<class>/*.jpg
  python run.py dataset=cars backbone=vit aug=sgid     Stable Diffusion 1.5, BLIP, CLIP
  python run.py stage=fetch dataset=cars backbone=vit  the images and weights of a run; sizes first
  python run.py aug=[sgid,randaugment]                 several augmentations together
  python run.py -m noise_rate=0.3,0.5,0.7 seed=0,1,2   a sweep, with one table at the end
  python run.py stage=evaluate evaluation.images=DIR   measure any generated images
  python run.py --config-dir my aug=sketch             a choice of your own: docs/extending.md
"""

# Lines of Hydra's messages that speak of its inner workings, or advise to add the mistyped key.
_NOISE = re.compile(
    r"\s*(full_key: \w+$|object_type=|reference_type=|provider=|Config search path|"
    r"To append to your config|See https)"
)


def own_folders(words: Sequence[str]) -> list[Path]:
    """The folders that a command line adds to `conf/`, by `--config-dir` or `hydra.searchpath`."""
    folders: list[str] = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        name, _, value = word.partition("=")
        if is_flag(name, "--config-dir", "-cd"):
            folders.append(value or after)
        elif "hydra.searchpath" in name:
            folders += _search_path(word)
    return [Path(folder) for folder in folders if folder and Path(folder).is_dir()]


def typed_flags() -> list[str]:
    """The words that were typed to add a config folder of one's own."""
    words = sys.argv[1:]
    flags = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        name, equals, _ = word.partition("=")
        if is_flag(name, "--config-dir", "-cd"):
            flags += [word] if equals else [word, after]
        elif name.lstrip("+") == "hydra.searchpath":
            flags.append(word)
    return flags


def is_flag(word: str, flag: str, short: str | None = None) -> bool:
    """Whether Hydra's parser may take a word for a flag: it knows `--config-d` as well."""
    return word == short or (len(word) > 2 and flag.startswith(word))


def _search_path(word: str) -> list[str]:
    """The folders that an option sets `hydra.searchpath` to, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException:
        return []  # and no run: it tells what is wrong
    return [str(one).removeprefix("file://") for one in value] if isinstance(value, list) else []


def help_text(conf: Path, *own: Path) -> str:
    """Usage, every group's options with a line each, and the options of the root config.

    `own` are folders beside `conf`; what they have in groups that `conf` has is listed with it.
    """
    parts = [USAGE.replace("python run.py", program())]
    for group in sorted(path.name for path in conf.iterdir() if path.is_dir()):
        if group == "hydra":
            continue
        parts.append(f"{group}=")
        for file in _files(group, conf, *own):
            parts.append(f"  {file.stem:<18}{_first_comment(file)}")
        parts.append("")
    parts.append("Options, with their defaults (any can be given as option=value):")
    text = (conf / "config.yaml").read_text()
    body = text[text.index("\nstage:") : text.index("\nhydra:")]
    parts += [f"  {line}" if line else "" for line in body.strip().splitlines()]
    parts.append(f"\nMore: {conf}/<group>/<option>.yaml. Hydra's own flags: --hydra-help")
    return "\n".join(parts)


def explain(conf: Path, text: str, *own: Path) -> str:
    """Put a message of Hydra's into the words of its user, with the nearest right name."""
    if found := re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text):
        group, name = found.groups()
        if files := [file.stem for file in _files(group, conf, *own)]:
            near = _did_you_mean(nearest(name, files))
            return f"{group}={name}: there is no such {group}{near}; one of {', '.join(files)}"
    if found := re.search(r"Could not override '([^'@]+)'", text):
        return not_an_option(found[1], option_names(conf, *own))
    lines = [line for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    if "mismatched" in text or "token recognition" in text or "viable" in text.lower():
        lines.append(_quoting(sys.argv[1:]))
    if found := re.search(r"Interpolation key '([A-Z_]+)' not found", text):
        lines.append(f"Of the environment it is ${{oc.env:{found[1]}}}")
    return "\n".join(lines).removeprefix("Error merging override ")


def _quoting(words: Sequence[str]) -> str:
    """The right form of the first word that Hydra's parser cannot read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-") or is_flag(before, "--config-dir", "-cd"):
            continue
        try:
            OverridesParser.create().parse_override(word)
        except HydraException:
            name, equals, value = word.partition("=")
            if before.endswith(",") or word.endswith(","):
                return "A list has no spaces: option=1,2,3, with -m before it"
            if not equals:
                return f"{word}: is no option=value"
            inside = re.sub(r'(\\*)"', r'\1\1\\"', value)
            return "As a text it needs quotes: " + shlex.quote(f'{name}="{inside}"')
    return """A value with spaces, commas or braces needs quotes: 'option="value"'"""


def explain_yaml(*own: Path) -> str | None:
    """Place and reason of a YAML that cannot be read, in folders that a command line adds; `None`
    if all can be.
    """
    from omegaconf import OmegaConf

    for file in (file for folder in own for file in sorted(folder.glob("**/*.yaml"))):
        try:
            OmegaConf.load(file)
        except UnicodeDecodeError as broken:
            return f"{file}: is not UTF-8 ({broken}); save it so"
        except (yaml.YAMLError, OSError) as broken:
            mark = getattr(broken, "problem_mark", None)
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            why = getattr(broken, "problem", None) or str(broken).partition("\n")[0]
            if "'\\t'" in why:
                why += "; YAML indents with spaces, not with tabs"
            elif "'@'" in why or "'`'" in why or "'%'" in why or "alias" in why:
                why += "; put the text in quotes"
            elif why.startswith("expected"):
                why += "; equal options stand below each other, and a text with braces, brackets, "
                why += "a comma or a colon needs quotes"
            return f"{file}{place}: {why}"
    return None


def check_mappings(*own: Path) -> None:
    """Raise a `ValueError` for a file of a folder that holds no options but a list or a text."""
    for file in (file for folder in own for file in sorted(folder.glob("*/**/*.yaml"))):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue  # Hydra cannot read it either; if it has to, `explain_yaml` says why
        if content is not None and not isinstance(content, dict):
            raise ValueError(
                f"{file}: holds a {type(content).__name__}, {str(content)[:40]!r}; it should be "
                "lines of option: value"
            )


def not_an_option(name: str, options: dict[str, list[str]]) -> str:
    if name in options:
        return f"{name} is an option of {', '.join(options[name])} only, which is not chosen here"
    if near := nearest(name, list(options)):
        return f"{name} is not an option{_did_you_mean(near)}"
    parent = f"{name.rpartition('.')[0]}."
    siblings = [other for other in options if other.startswith(parent) and parent != "."]
    known = f"; there are {', '.join(sorted(siblings))}" if siblings else "; see --help"
    return f"{name} is not an option{known}"


def nearest(name: str, names: list[str]) -> list[str]:
    """The best one or two of `names`, if any is like `name` or, without dots, ends like it."""
    parent, _, own = name.rpartition(".")
    siblings = [other for other in names if parent and other.rpartition(".")[0] == parent]

    def likeness(other: str) -> float:
        if siblings or not parent:
            return difflib.SequenceMatcher(None, own, other.rpartition(".")[2]).ratio()
        return difflib.SequenceMatcher(None, name, other).ratio()

    scored = sorted((-likeness(other), len(other), other) for other in siblings or names)
    best = -scored[0][0] if scored else 0
    return [other for score, _, other in scored[:2] if -score >= max(0.6, 0.95 * best)]


def _did_you_mean(near: list[str]) -> str:
    return f", did you mean {' or '.join(near)}?" if near else ""


def option_names(conf: Path, *own: Path) -> dict[str, list[str]]:
    """Groups and the dotted names of all keys, with the choices (`backbone=vit`) that have each."""
    from sgid.config.schema import Config

    names: dict[str, list[str]] = {name: [] for name in _fields(Config, "")}
    files = ((one, file) for one in (conf, *own) for file in sorted(one.glob("*/**/*.yaml")))
    for folder, file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:  # `explain_yaml` is for these
            continue
        content = content if isinstance(content, dict) else {}
        content.pop("defaults", None)
        group = file.relative_to(folder).parent.as_posix()
        names.setdefault(group, [])
        for name in _dotted(content, "" if "@package _global_" in text else f"{group}."):
            names.setdefault(name, []).append(f"{group}={file.stem}")
    return {name: choices for name, choices in names.items() if not name.startswith("hydra")}


def _dotted(content: Any, prefix: str) -> set[str]:
    if not isinstance(content, dict):
        return set()
    names = {f"{prefix}{key}" for key in content}
    for key, value in content.items():
        names |= _dotted(value, f"{prefix}{key}.")
    return names


def _fields(kind: Any, prefix: str) -> set[str]:
    """Dotted names of a dataclass's fields, and of the dataclasses in them."""
    from dataclasses import fields, is_dataclass
    from typing import get_type_hints

    hints = get_type_hints(kind)
    names = set()
    for field in fields(kind):
        names.add(prefix + field.name)
        if is_dataclass(hints[field.name]):
            names |= _fields(hints[field.name], f"{prefix}{field.name}.")
    return names


def _files(group: str, *folders: Path) -> list[Path]:
    """The YAML files of a group, by name."""
    found = (file for folder in folders for file in (folder / group).glob("*.yaml"))
    return sorted((file for file in found if file.is_file()), key=lambda file: file.stem)


def _first_comment(file: Path) -> str:
    """The first comment line that is not Hydra's `@package`."""
    for line in file.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").rstrip()
    return ""
