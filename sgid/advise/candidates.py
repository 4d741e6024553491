"""Candidates of a search: lines of options, as the command line has them.

`aug=[sgid],[sgid,randaugment] noise_rate=0.3,0.7` is four candidates: commas make several, and
every combination of them, as in any sweep.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

OPTION = "advise.candidates"


@dataclass(frozen=True)
class Candidate:
    """One choice of settings; `generates` says whether any images are generated for it."""

    options: tuple[str, ...]
    generates: bool

    @property
    def name(self) -> str:
        """Its options, as they are typed."""
        return " ".join(self.options)

    @property
    def keys(self) -> set[str]:
        """The names of the options that it sets."""
        return {option.partition("=")[0] for option in self.options}


def expand(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """The options of each candidate that the lines name, in their order, each once.

    Raises:
        ValueError: naming the line that cannot be read.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    found: dict[tuple[str, ...], None] = {}
    for line in lines:
        try:
            overrides = OverridesParser.create().parse_overrides(shlex.split(line))
            (batch,) = BasicSweeper.split_arguments(overrides, None)
        except (HydraException, ValueError) as error:
            why = str(error).partition("\n")[0]
            raise ValueError(
                f"{OPTION}: {line!r} cannot be read ({why}); a line is options as the command "
                "line has them: aug=[sgid,randaugment] noise_rate=0.3,0.7"
            ) from error
        found |= dict.fromkeys(tuple(options) for options in batch)
    return [*found]
