"""The files of a page: Markdown to read, LaTeX and HTML tables, PNG and SVG figures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.paper.page import Page
from sgid.reporting.figure_files import encode
from sgid.reporting.results import Result
from sgid.runtime.files import write_atomic


@dataclass(frozen=True)
class Chapter:
    """A page with what it is about: the question it answers, and the runs it was made from.

    `asked` is how many runs its grid has; `command` makes them.
    """

    name: str
    title: str
    question: str
    command: Sequence[str]
    asked: int
    results: Sequence[Result]
    page: Page


def write_chapter(chapter: Chapter, folder: Path) -> Path:
    """Write `<name>.md` and its tables and figures into `folder`."""
    name, page = chapter.name, chapter.page
    blocks = [f"# {chapter.title}", *chapter.question.split("\n\n")]
    if page.findings:
        blocks.append("\n".join(f"- {finding}" for finding in page.findings))
    if len(chapter.results) < chapter.asked:
        blocks.append(f"**{len(chapter.results):,} of {chapter.asked:,} runs have finished.**")
    for key, figure in page.figures.items():
        file = f"{name}-{key}"
        for kind in ("png", "svg"):
            write_atomic(folder / f"{file}.{kind}", encode(figure, kind))
        caption = page.captions.get(key, "")
        blocks += [f"![{caption or key}]({file}.png)", f"*{caption}* [SVG]({file}.svg)"]
    for key, table in page.tables.items():
        file = f"{name}-{key}"
        write_atomic(folder / f"{file}.tex", table.latex().encode())
        write_atomic(folder / f"{file}.html", table.html().encode())
        blocks += [table.markdown().strip(), f"[LaTeX]({file}.tex) · [HTML]({file}.html)"]
    blocks += [f"```bash\n{shlex.join(chapter.command)}\n```", *_made(chapter.results)]
    path = folder / f"{name}.md"
    write_atomic(path, ("\n\n".join(blocks) + "\n").encode())
    return path


def write_index(chapters: Sequence[Chapter], scale: str, folder: Path) -> Path:
    """Write `README.md`: what each page asks and finds."""
    blocks = [f"# Results, scale={scale}"]
    for chapter in chapters:
        blocks.append(f"## [{chapter.title}]({chapter.name}.md)")
        blocks.append(chapter.question.split("\n\n")[0])
        blocks.append("\n".join(f"- {finding}" for finding in chapter.page.findings))
        first = next(iter(chapter.page.figures), None)
        if first is not None:
            caption = chapter.page.captions.get(first, first)
            blocks.append(f"![{caption}]({chapter.name}-{first}.png)")
    results = {one.fingerprint: one for chapter in chapters for one in chapter.results}
    blocks += ["## How it was made", *_made(list(results.values()))]
    path = folder / "README.md"
    write_atomic(path, ("\n\n".join(block for block in blocks if block) + "\n").encode())
    return path


def _made(results: Sequence[Result]) -> list[str]:
    """Runs, commits and versions; what differs among the runs is said in full."""
    if not results:
        return []
    commits = dict.fromkeys(result.commit or "no commit" for result in results)
    days = sorted({result.finished[:10] for result in results})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    text = f"{len(results):,} runs, finished {when}, at commit {', '.join(commits)}."
    return [text, f"Versions: {_versions([result.versions for result in results])}."]


def _versions(all_versions: Sequence[Mapping[str, str]]) -> str:
    names = dict.fromkeys(name for versions in all_versions for name in versions)
    found = {name: dict.fromkeys(v[name] for v in all_versions if name in v) for name in names}
    return ", ".join(f"{name} {' or '.join(versions)}" for name, versions in found.items())
