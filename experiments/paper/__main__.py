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
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.paper.scales import SCALES, Scale
from sgid.cli import message

NAMES = (
    "main",
    "combination",
    "ablation",
    "noise_guidance",
    "expansion",
    "shots",
    "consistency",
    "plane",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the pages; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", action="store_true", help="say what would run, and stop")
    parser.add_argument("--render", action="store_true", help="run nothing, only write the pages")
    parser.add_argument(
        "--processes", type=int, default=1, help="multiruns at once on this machine"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the pages; default docs/results/SCALE"
    )
    parser.add_argument(
        "words", nargs="*", help=f"of {', '.join(NAMES)}; and options as for run.py"
    )
    given = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    try:
        scale, names, options = read(given.words)
        return work(scale, names, options, given, console)
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


def work(
    scale: Scale,
    names: Sequence[str],
    options: Sequence[str],
    given: argparse.Namespace,
    console: Console,
) -> int:
    from importlib import import_module

    from experiments.paper.cells import locate
    from experiments.paper.running import Runner
    from sgid.models import Loaded
    from sgid.progress import progress

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    modules = {name: import_module(f"experiments.paper.{name}") for name in names}
    plain = [option for option in options if not option.startswith("hydra")]
    loaded = Loaded()
    found = {}
    for name, module in modules.items():
        sweeps = module.grid(scale)
        cells = []
        with progress(f"look up {name}", len(sweeps), "sweeps") as bar:
            for sweep in sweeps:
                cells += locate(name, sweep, plain, loaded)
                bar.update()
        found[name] = cells
    print({n: (len(c), sum(x.finished for x in c)) for n, c in found.items()})
    if given.plan:
        return 0
    folder = Path("outputs") / "paper" / scale.name / time.strftime("%Y-%m-%d-%H-%M-%S")
    once = {}
    for cells in found.values():
        for cell in cells:
            once.setdefault((cell.folder, cell.judged), cell)
    Runner(options, given.processes, folder).run(list(once.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
