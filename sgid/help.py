"""`--help`, and the nearest right name for a mistyped option. Reads the YAML files alone: fast."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

USAGE = """\
SGID: augment labelled images with a diffusion model steered by each image's label and caption,
train a classifier on originals plus generated images, and say whether it helped.

  python run.py                                        the bundled images and models, on a CPU
  python run.py dataset=folder dataset.root=DIR        your own images, DIR/<class>/*.jpg
  python run.py dataset=cars backbone=vit aug=sgid     Stable Diffusion 1.5, BLIP, CLIP
  python run.py aug=[sgid,randaugment]                 several augmentations together
  python run.py -m noise_rate=0.3,0.5,0.7 seed=0,1,2   a sweep, with one table at the end
"""


def help_text(conf: Path) -> str:
    """Usage, every group's options with a line each, and the options of the root config."""
    parts = [USAGE]
    for group in sorted(path for path in conf.iterdir() if path.is_dir()):
        if group.name == "hydra":
            continue
        parts.append(f"{group.name}=")
        for file in sorted(group.glob("*.yaml")):
            parts.append(f"  {file.stem:<16}{_first_comment(file)}")
        parts.append("")
    parts.append("Options, with their defaults (any can be given as option=value):")
    text = (conf / "config.yaml").read_text()
    body = text[text.index("\nstage:") : text.index("\nhydra:")]
    parts += [f"  {line}" if line else "" for line in body.strip().splitlines()]
    parts.append("\nMore: conf/<group>/<option>.yaml. Hydra's own flags: --hydra-help")
    return "\n".join(parts)


def suggestions(conf: Path, arguments: list[str]) -> list[str]:
    """A line for each argument whose name is not an option, naming the nearest one."""
    known = option_names(conf)
    lines = []
    for argument in arguments:
        name = argument.lstrip("+~").partition("=")[0]
        if argument.startswith("-") or "=" not in argument or name in known:
            continue
        if name.startswith("hydra"):
            continue
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        also = f"; did you mean {' or '.join(near)}?" if near else ""
        lines.append(f"{name} is not an option{also}")
    return lines


def option_names(conf: Path) -> set[str]:
    """Groups, and the dotted names of all keys in all YAML files."""
    names = set()
    for file in conf.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text()) or {}
        content.pop("defaults", None)
        group = file.relative_to(conf).parent.as_posix()
        whole = group == "." or "@package _global_" in file.read_text()
        names |= _dotted(content, "" if whole else f"{group}.")
        if group != ".":
            names.add(group)
    from sgid.config import Config

    return names | _fields(Config, "")


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


def _first_comment(file: Path) -> str:
    """The first comment line that is not Hydra's `@package`."""
    for line in file.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").rstrip()
    return ""
