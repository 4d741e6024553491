"""Words of a command line as people type them: what Hydra's grammar would read as something else
is quoted, and what would be taken without effect is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from sgid.config.help import not_an_option, option_names

PATHS = re.compile(
    r"(\.|^)(root|path|images|classifier|tiny_vae|ip_adapter|image_encoder|controlnet|storage|"
    r"classes|dir|to)$|^paths\."
)
"""Options that are places: `~` at their beginning is the home directory."""

SHORT = {"store": "store.path"}
"""Options that may be given by the name of their section."""

_OPTION = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)

# A call or list of Hydra's grammar for sweeps, an interpolation, or what is quoted already.
_HYDRAS = re.compile(
    r"""(choice|range|interval|glob|sort|shuffle|extend_list|str|int|float|bool)\(.*\)|"""
    r"""'.*'|".*"|.*\$\{.*""",
    re.DOTALL,
)


def typed(words: Sequence[str], conf: Path, *own: Path) -> list[str]:
    """`words` as Hydra must be given them, so that an option that is a text, a path or an id has
    the value that was typed.

    Of weights, a path or an id stands alone: it takes the place of the default, whichever that has.

    Raises:
        ValueError: for an option that was added with `+` and that nothing reads.
    """
    several = bool({"-m", "--multirun"} & set(words))
    given = []
    for word in words:
        match = _OPTION.fullmatch(word)
        if not match or word.startswith("-"):
            given.append(word)
            continue
        plus, name, value = match.groups()
        name = SHORT.get(name, name)
        kind = _kind(name)
        if plus and kind is None:
            raise ValueError(f"{word}: {not_an_option(name, option_names(conf, *own))}")
        if kind is str or re.fullmatch(r"hydra\.(run|sweep)\.dir", name):
            value = _text(name, value, several=several)
        given.append(f"{plus}{name}={value}")
    return [*given, *_whole_weights(given)]


def repeated(words: Sequence[str]) -> list[str]:
    """A line for each option that stands there twice, of which the last one counts."""
    seen: dict[str, str] = {}
    lines = []
    for word in words:
        if (match := _OPTION.fullmatch(word)) and not word.startswith("-"):
            name = match[2]
            if name in seen and seen[name] != word:
                lines.append(f"{name} is given twice: {word} counts, not {seen[name]}")
            seen[name] = word
    return lines


def _kind(name: str) -> Any:
    """The type that the schema gives an option: `str` also for what may be null, `Any` below what
    has a type of its own there; `None` for what is no option.
    """
    from sgid.config.schema import Config

    if name.partition(".")[0] == "hydra":
        return Any
    kind: Any = Config
    for part in name.split("."):
        if not is_dataclass(kind):
            return Any
        hints = get_type_hints(kind)
        if part not in hints:
            return None if part != "experiment" else Any
        kind = hints[part]
        options = [one for one in get_args(kind) if one is not type(None)]
        if type(None) in get_args(kind):
            kind = options[0]
        if getattr(kind, "__origin__", None) is dict or kind is Any:
            return Any
    return kind


def _text(name: str, value: str, *, several: bool) -> str:
    """A value, or with `several` each of them between commas, quoted where that is needed."""
    if _HYDRAS.fullmatch(value):
        return value
    values = value.split(",") if several else [value]
    return ",".join(_quoted(os.path.expanduser(one) if PATHS.search(name) else one, name)
                    for one in values)  # fmt: skip


def _quoted(value: str, name: str) -> str:
    if value in ("", "null") or _reads_as(name, value):
        return value
    inside = re.sub(r'(\\*)"', r'\1\1\\"', value)  # backslashes count before a quote alone,
    inside = re.sub(r"(\\+)$", r"\1\1", inside)  # or at the end
    return f'"{inside}"'


def _reads_as(name: str, value: str) -> bool:
    """Whether Hydra's parser reads a value as the text that it is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"{name}={value}").value() == value
    except HydraException:
        return False


def _whole_weights(words: Sequence[str]) -> Iterator[str]:
    """Options that set the default's own path, id or revision to null, where another is named.

    A generator in one file keeps the id, which has its configs.
    """
    named: dict[str, set[str]] = {}
    for word in words:
        if re.fullmatch(r"models\.generator\.weights\.path=.*\.safetensors", word, re.DOTALL):
            continue
        if match := re.fullmatch(r"([\w.]+\.weights)\.(path|id|revision)=(.*)", word, re.DOTALL):
            named.setdefault(match[1], set()).add(match[2] if match[3] != "null" else "null")
            named[match[1]].add(f"{match[2]}=")
    for option, parts in named.items():
        if len({"path", "id"} & parts) == 1:
            for other in {"path": ("id", "revision"), "id": ("path", "revision")}[
                "path" if "path" in parts else "id"
            ]:
                if f"{other}=" not in parts:
                    yield f"{option}.{other}=null"
