"""Prompt templates and pools of them: text with fields, such as `{label}` and `{caption}`.

A pool is one template, a list, or a list for each class; each image takes one of its class.
"""

from __future__ import annotations

import itertools
import re
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

OF_CLASSES = ("label", "superclass", "description", "confusable")
"""Fields that are filled in by class; `confusable` is the class that it is most taken for."""

TOKEN = "token"
"""Field that is filled in by the learned token of a class."""

FIELDS = (*OF_CLASSES, "caption", TOKEN)

Pool: TypeAlias = "str | Sequence[str] | Mapping[str, Sequence[str]]"
"""One template, several, or several by the name of a class."""


def templates(pool: Pool, class_name: str | None = None) -> list[str]:
    """The templates of a class, or of all."""
    if isinstance(pool, str):
        return [pool]
    if isinstance(pool, Mapping):
        lists = pool.values() if class_name is None else [pool[class_name]]
        return [text for texts in lists for text in texts]
    return list(pool)


def fields(pool: Pool) -> set[str]:
    """The fields that the templates of a pool use; a subset of `FIELDS`.

    Raises:
        ValueError: for a field that does not exist, or braces that do not close.
    """
    return {field for template in templates(pool) for field in _fields(template)}


def _fields(template: str) -> set[str]:
    try:
        parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"prompt template {template!r}: {error}") from None
    used = {str(name) for _, name, _, _ in parsed}
    if unknown := used - set(FIELDS):
        raise ValueError(
            f"prompt template {template!r}: unknown field {', '.join(sorted(unknown))}; "
            f"the fields are {', '.join(FIELDS)}"
        )
    if any(form or conversion for _, _, form, conversion in parsed):
        raise ValueError(f"prompt template {template!r}: a field is its name in braces, no more")
    return used


def render(template: str, **texts: str) -> str:
    """Fill in the fields of `template`; the texts themselves are never parsed again."""
    _fields(template)
    return template.format(**texts)


def product(template: str, **lists: Sequence[str]) -> list[str]:
    """Every combination of the `lists`, each put in the place of its name in `template`.

    `product("{domain} {label}", domain=["a sketch of a", "a photo of a"])` are two templates.

    Raises:
        ValueError: if a list is empty, or its name is not in the template.
    """
    for name, texts in lists.items():
        if f"{{{name}}}" not in template or not texts:
            raise ValueError(f"{name}: {template!r} must hold {{{name}}}, and the list some text")
    combined = []
    for texts in itertools.product(*lists.values()):
        text = template
        for name, one in zip(lists, texts, strict=True):
            text = text.replace(f"{{{name}}}", one)
        combined.append(text)
    return combined


def from_files(path: str, template: str = "{text}") -> list[str] | dict[str, list[str]]:
    """Texts from a file, one in each line, or from a folder with a file `<class>.txt` for each.

    Each text takes the place of `{text}` in `template`. A YAML or JSON file is a list, or has a
    list for each class. Texts may have the fields of templates.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if a list is empty, or no list of texts.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(place.glob("*.txt"))
        if not files:
            raise FileNotFoundError(f"{path} has no file <class>.txt")
        read: Any = {_normal(file.stem): _lines(file) for file in files}
    elif not place.is_file():
        raise FileNotFoundError(f"{path} is neither a file of prompts nor a folder of such")
    elif place.suffix.lower() in (".yaml", ".yml", ".json"):
        import yaml

        read = yaml.load(place.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    else:
        read = _lines(place)
    lists = read if isinstance(read, dict) else {"": read}
    for name, texts in lists.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"{path}: {name or 'it'} has no list of texts")
    filled = {
        _normal(name): [template.replace("{text}", text) for text in texts]
        for name, texts in lists.items()
    }
    fields(filled)
    return filled if isinstance(read, dict) else filled[""]


def file_name(class_name: str) -> str:
    """The name of the file of a class, in a folder of prompts."""
    return re.sub(r"[/\\:\0]", "_", class_name) + ".txt"


def by_class(pool: Pool, class_names: Sequence[str]) -> tuple[Pool, list[str]]:
    """A pool by the class names as the dataset has them; and the classes that have no list."""
    if not isinstance(pool, Mapping):
        return pool, []
    named = {
        name: pool[key]
        for name in class_names
        for key in (name, _normal(name), _normal(file_name(name).removesuffix(".txt")))
        if key in pool
    }
    return named, [name for name in class_names if name not in named]


def _lines(file: Path) -> list[str]:
    return list(_texts(file.read_text(encoding="utf-8-sig").splitlines()))


def _texts(lines: Sequence[str]) -> Iterator[str]:
    """Prompts of a file's lines; empty ones, and those that begin with #, are left out."""
    for line in lines:
        if (text := line.strip()) and not text.startswith("#"):
            yield text


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
