"""Let people rate what methods generate: blind, balanced, and in the paper's two questions.

python -m sgid.human_study build 'aug=[sgid,text2img_label]' dataset=fashion --output DIR
python -m sgid.human_study serve DIR
python -m sgid.human_study results DIR
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

# Also what the pages need to read a form.
_NEEDED = {
    "serve": {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"},
    "results": {"krippendorff": "krippendorff"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        _installed(given.command)
        {"build": _build, "serve": _serve, "results": _results}[given.command](given)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from sgid.errors import message

        if (text := message(error)) is None:
            raise
        print(text, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m sgid.human_study", description=__doc__, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="make a questionnaire of stores")
    build.add_argument("options", nargs="*", help="as for run.py: the methods are those of aug=")
    build.add_argument(
        "--questions", type=int, default=60, help="asked of each rater, at most (60); checks extra"
    )
    build.add_argument("--seed", type=int, default=0, help="of the originals and all orders (0)")
    build.add_argument(
        "--output", type=Path, help="folder of the study; default: human/DATASET in paths.artifacts"
    )

    serve = commands.add_parser("serve", help="the pages on which people rate")
    serve.add_argument("folder", type=Path, metavar="DIR")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all networks (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="0 for any that is free (8000)")

    results = commands.add_parser("results", help="tables, a figure, and all ratings as CSV")
    results.add_argument("folder", type=Path, metavar="DIR")
    results.add_argument(
        "--attentive",
        action="store_true",
        help="only of raters who answered checks and passed them all",
    )
    results.add_argument(
        "--output", type=Path, help="folder; default: results in DIR, or results-attentive"
    )
    return parser


def _installed(command: str) -> None:
    lacking = [pip for name, pip in _NEEDED.get(command, {}).items() if find_spec(name) is None]
    if lacking:
        raise ValueError(f"{command} needs {', '.join(lacking)}: pip install 'sgid[human]'")


def _build(given: argparse.Namespace) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any hub library is imported
    from sgid.human_study.build import build

    folder, lines = build(
        given.options, questions=given.questions, seed=given.seed, folder=given.output
    )
    print(*lines, sep="\n")
    print(f"study: {folder}\nnow: python -m sgid.human_study serve {folder}")


def _serve(given: argparse.Namespace) -> None:
    from sgid.human_study.app import serve

    serve(given.folder, host=given.host, port=given.port)


def _results(given: argparse.Namespace) -> None:
    os.environ.setdefault("MPLCONFIGDIR", str(given.folder.absolute() / "fonts"))
    from rich.console import Console

    from sgid.human_study.results import write_results

    console = Console(soft_wrap=True)
    folder = given.folder / ("results-attentive" if given.attentive else "results")
    written = write_results(given.folder, given.output or folder, attentive=given.attentive)
    for table in written.tables:
        table.print(console)
    console.print(f"{written.folder}/", style="dim", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
