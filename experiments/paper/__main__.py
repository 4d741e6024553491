"""The paper's tables and figures, one command.

    python -m experiments.paper scale=tiny                 all of them, bundled images, a CPU
    python -m experiments.paper main ablation scale=paper  some of them, the paper's sets, GPUs
    python -m experiments.paper scale=tiny --plan          what would run, and for how long

Each is a grid of runs, made by Hydra's multirun: options are those of run.py for all runs, and a
launcher may be named (hydra/launcher=...). Runs that are finished are not run again, and a killed
command goes on where it was. Tables and figures go to docs/results/SCALE, from what is finished.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.paper.grid import plain
from experiments.paper.scales import NAMES, SCALES, Scale
from sgid.config.compose import compose
from sgid.errors import message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the pages; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", action="store_true", help="say what would run, and stop")
    parser.add_argument("--render", action="store_true", help="train nothing, write the pages")
    parser.add_argument("--processes", type=int, default=1, help="multiruns at once; default 1")
    parser.add_argument("--output", type=Path, help="folder of the pages; docs/results/SCALE")
    parser.add_argument("words", nargs="*", help=f"{', '.join(NAMES)}; scale=; options of run.py")
    given = parser.parse_intermixed_args(arguments)
    # Closed terminals and job schedulers end it as Ctrl-C does: with what it has started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        from experiments.paper.work import Work

        scale, names, options = read(given.words)
        if given.processes < 1:
            raise ValueError(f"--processes {given.processes}: at least 1")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        # Matplotlib's list of fonts would go to the home directory.
        artifacts = Path(compose(plain(options)).paths.artifacts).absolute()
        os.environ.setdefault("MPLCONFIGDIR", str(artifacts / "fonts"))
        work = Work(scale, names, options, given.processes, given.output, Console(soft_wrap=True))
        return work.plan() if given.plan else work.pages() if given.render else work.run()
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except Exception as error:
        if (text := message(error)) is None:
            raise
        print(text, file=sys.stderr)
        return 1


def read(typed: Sequence[str]) -> tuple[Scale, list[str], list[str]]:
    """The scale, the experiments (all where none is named), and the options for the runs.

    Raises:
        ValueError: for an experiment or a scale that there is not.
    """
    name = "tiny"
    names: list[str] = []
    options: list[str] = []
    for word in typed:
        if word.startswith("scale="):
            name = word.removeprefix("scale=")
        elif "=" in word:
            options.append(word)
        else:
            names.append(word)
    if unknown := [one for one in names if one not in NAMES]:
        raise ValueError(f"{', '.join(unknown)} is not an experiment; there are {', '.join(NAMES)}")
    if name not in SCALES:
        raise ValueError(f"scale={name} is not one of {', '.join(SCALES)}")
    return SCALES[name], names or list(NAMES), options


if __name__ == "__main__":
    sys.exit(main())
