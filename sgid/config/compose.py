"""Compose the typed config of a run from options as `run.py` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.config.help import is_flag

if TYPE_CHECKING:
    from sgid.config.schema import Config


CONF = Path(__file__).resolve().parents[2] / "conf"


def compose(options: Sequence[str]) -> Config:
    """The config of `python run.py OPTIONS`, every option but those of Hydra itself.

    Raises:
        ValueError: if it names code that is not to be called.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from sgid.config.schema import register
    from sgid.config.targets import refuse

    options = quote_texts(options)
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
    refuse(asdict(config), config.allow_targets)
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


def refuse_flags(words: Sequence[str]) -> None:
    """Raise a `ValueError` for flags of Hydra that read another `conf/`, or a pickle."""
    for word in words:
        name = word.partition("=")[0]
        if is_flag(name, "--config-path", "-cp") or is_flag(name, "--config-name", "-cn"):
            raise ValueError(f"{name}: there is conf/ alone; say --config-dir DIR to add to it")
        if is_flag(name, "--experimental-rerun"):
            raise ValueError(f"{name}: reads a pickle, which can run code; give the options again")
