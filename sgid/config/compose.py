"""Compose the typed config of a run from options as `run.py` takes them, and check the files that a
command line adds to `conf/`.

Hydra obeys what a file says below `hydra` before a run begins: it imports, calls and sets whatever
is named there. A folder that somebody hands on is to be read as data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sgid.config.help import is_flag, own_folders
from sgid.config.targets import HYDRA, OPTION

if TYPE_CHECKING:
    from sgid.config.schema import Config


CONF = Path(__file__).resolve().parents[2] / "conf"


def compose(options: Sequence[str]) -> Config:
    """What `python run.py OPTIONS` would run with, every option but those of Hydra itself.

    Raises:
        ValueError: if it names code that is not to be called.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from sgid.config.schema import register
    from sgid.config.targets import refuse

    options = quote_texts(options)
    refuse_files(options)
    register()
    # Hydra knows one config at a time, and within a run that is the run's. It puts a copy of what
    # it found in the place of the only `GlobalHydra`.
    one = GlobalHydra.instance()
    running, one.hydra = one.hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config: Any = OmegaConf.to_object(hydra.compose("config", list(options)))
    finally:
        one.hydra = running
        GlobalHydra.set_instance(one)
    refuse(config)
    return config


# Options whose value is a path, an id or another text of the user's, to arrive as it was typed.
_TEXTS = re.compile(
    r"\+*(paths\.\w+|dataset\.(root|classes|group|noun|name)|dataset\.source\.\w+"
    r"|(models\.\w+|backbone)\.weights\.(path|id|revision)|models\.generator\.tiny_vae"
    r"|evaluation\.(images|classifier)|cluster\.(storage|address))"
)
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|extend_list|str|int|float)\(")


def quote_texts(words: Sequence[str]) -> list[str]:
    """The words of a command line, with quotes where Hydra would read a path or an id as anything
    else than its characters: `~/photos`, `写真`, `a&b`, `1e3`.

    What is quoted, null, or an interpolation (`${...}`) stays; with `-m` so does what is a sweep.
    """
    several = any(is_flag(word, "--multirun", "-m") for word in words)
    return [_quoted(word, several) for word in words]


def _quoted(word: str, several: bool) -> str:
    name, equals, value = word.partition("=")
    if not equals or not _TEXTS.fullmatch(name):
        return word
    values = value.split(",") if several else [value]
    source = name.lstrip("+").startswith("dataset.source.")
    if several and _FUNCTION.match(value) or any(_is_left(one, source) for one in values):
        return word
    if name.lstrip("+").startswith("paths."):
        values = [os.path.expanduser(one) for one in values]
    return f"{name}={','.join(map(_as_text, values))}"


def _is_left(value: str, source: bool) -> bool:
    value = value.strip()
    if value in ("", "null") or "${" in value or (source and value in ("true", "false")):
        return True
    pairs = ("''", '""', "[]", "{}")
    return len(value) > 1 and value[0] + value[-1] in pairs


def _as_text(value: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        if OverridesParser.create().parse_override(f"key={value}").value() == value:
            return value
    except HydraException:
        pass
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    end = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{end}'"


MAX_BYTES = 2**20
"""More than any file has that is written for Hydra."""

# What a file may say to Hydra unasked, since it is data: where to write, and what a sweep is of.
PLAIN = {"mode", "verbose", "job.name", "run.dir", "sweep.dir"}


PARAMS = "sweeper.params"

_GROUPS = {path.name for path in CONF.glob("*/")}


_SPOKEN = re.compile(r"\bhydra\b")


# A text without any of these says nothing that is looked for; a backslash may hide a letter.
_MARKS = re.compile(rf"hydra|defaults|{OPTION}|\\")


def refuse_flags(words: Sequence[str]) -> None:
    """Raise a `ValueError` for a flag of Hydra's that has it read what is not looked at."""
    for word in words:
        name = word.partition("=")[0]
        if is_flag(name, "--config-path", "-cp") or is_flag(name, "--config-name", "-cn"):
            raise ValueError(f"{name}: there is conf/ alone; say --config-dir DIR to add to it")
        if is_flag(name, "--experimental-rerun"):
            raise ValueError(f"{name}: reads a pickle, which can run code; give the options again")


def refuse_files(options: Sequence[str]) -> None:
    """Look through the folders that a command line adds to `conf/`.

    No file can allow what it names itself. None says more than plain data to Hydra, unless the
    command line says `allow_targets=[hydra]`. What Hydra cannot read as a config is passed over.

    Raises:
        ValueError: naming the file, what is wrong with it, and what to do.
    """
    trusted = HYDRA in _allowed(options)
    for top in own_folders(options):
        files, unread = _found(top)
        for path in unread:
            if path.relative_to(top).parts[0] in _GROUPS:
                raise ValueError(_unread(path))
        for file in files:
            header, pairs = _read(file)
            if any(OPTION in key for key, _ in pairs):
                raise ValueError(
                    f"{file} says {OPTION}: only the command line can, {OPTION}=[NAME]"
                )
            defaults = [text for key, node in pairs if key == "defaults" for text in _texts(node)]
            named = set(re.findall(r"[^/@\s]+", " ".join(defaults)))
            for path in unread:
                if {path.name, path.stem} & named:
                    raise ValueError(f"{file} builds on it: {_unread(path)}")
            said = [file.relative_to(top).as_posix(), *header, *defaults]
            said += [key for key, node in pairs if key != HYDRA or not _is_plain(node)]
            if not trusted and any(map(_SPOKEN.search, said)):
                raise ValueError(
                    f"{file} speaks to Hydra itself, which calls what it is told to; if you trust "
                    f"it, say {OPTION}=[{HYDRA}]"
                )


def _allowed(options: Sequence[str]) -> list[str]:
    """The packages that a command line allows to be called."""
    found = []
    for name, _, value in (option.partition("=") for option in options):
        if name.lstrip("+") == OPTION:
            if not value.startswith("["):
                raise ValueError(f"{OPTION}={value}: it is a list; say {OPTION}=[{value}]")
            found += re.findall(r"[\w.]+", value)
    return found


def _found(top: Path) -> tuple[list[Path], list[Path]]:
    """The YAML files below `top` that can be looked at; and files and folders that cannot.

    A linked folder may lead anywhere, even to all there is: it is not entered.
    """
    files, unread = [], []
    for folder, folders, names in os.walk(top):
        unread += [path for name in sorted(folders) if (path := Path(folder, name)).is_symlink()]
        for file in (Path(folder, name) for name in sorted(names) if name.endswith(".yaml")):
            if file.is_file() and file.stat().st_size <= MAX_BYTES:
                files.append(file)
            elif file.exists():  # a link to nothing is nothing to Hydra either
                unread.append(file)
    return files, unread


def _unread(path: Path) -> str:
    return (
        f"{path} cannot be looked at before Hydra reads it: it is a link to a folder, no ordinary "
        f"file, or longer than {MAX_BYTES:,} bytes; put an ordinary one there"
    )


def _read(file: Path) -> tuple[list[str], list[tuple[str, yaml.Node]]]:
    """The lines of a file that may be its header (`# @package`), and all its keys with values."""
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader) if _MARKS.search(text) else None
    except (UnicodeDecodeError, yaml.YAMLError):
        return [], []  # nor can Hydra read it
    except (OSError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    inner = [] if node is None else list(_nodes(node))
    pairs = [pair for one in inner if isinstance(one, yaml.MappingNode) for pair in one.value]
    header = [line for line in text.splitlines() if "@package" in line]
    return header, [(_text(key), value) for key, value in pairs]


def _nodes(top: yaml.Node) -> Iterator[yaml.Node]:
    """Every node, at any depth. What has several names (`&`, `*`) comes once, so that it ends."""
    seen: set[int] = set()
    left = [top]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            left += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _texts(top: yaml.Node) -> list[str]:
    return [_text(node) for node in _nodes(top)]


def _text(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else ""


def _is_plain(node: yaml.Node, below: str = "") -> bool:
    """Whether a file says nothing to Hydra, below the option `below`, but `PLAIN` and `PARAMS`."""
    if not isinstance(node, yaml.MappingNode) or below.count(".") > 1:
        return False  # an interpolation may stand for anything
    for key, value in node.value:
        option = below + _text(key)
        known = option in PLAIN or (option == PARAMS and isinstance(value, yaml.MappingNode))
        if not known and not _is_plain(value, f"{option}."):
            return False
    return True
