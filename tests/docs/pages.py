"""What the Markdown pages hold: snippets of files, commands, links, the README's file tree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sgid

ROOT = Path(sgid.__file__).parent.parent
README = ROOT / "README.md"
# Pages made by a program are held to their links alone.
WRITTEN = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*WRITTEN, *sorted((ROOT / "docs").glob("*/**/*.md")), ROOT / "experiments" / "LOG.md"]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"""\]\(([^)\s]+)\)|src="([^"]+)\"""")
_BEGINS = ("python ", "make ")


class Block(NamedTuple):
    """A fenced block; `file` is the path that stands alone on the line before it."""

    file: str | None
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCED.finditer(text):
        before = text[: found.start()].rstrip().rpartition("\n")[2]
        named = re.fullmatch(r"`([^`\s]+/[^`\s]+)`", before)
        yield Block(named and named[1], found[1], found[2])


def snippets(*pages: Path) -> dict[str, str]:
    """Path -> content, of every file that the pages show; the same path is the same everywhere."""
    files: dict[str, str] = {}
    for page in pages:
        for block in blocks(page):
            if block.file:
                assert files.setdefault(block.file, block.text) == block.text, (
                    f"{page.name} shows another {block.file} than the pages before it"
                )
    return files


def commands(page: Path) -> list[list[str]]:
    """The words of every command in a page's shell blocks and in its text, comments left out."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line
        for block in blocks(page)
        if block.language in ("bash", "sh")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    # Wrapped lines of prose may break a command in two.
    lines += [code.replace("\n", " ") for code in _CODE.findall(_FENCED.sub("", text))]
    found = []
    for line in lines:
        line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)  # variables of the environment
        if line.startswith(_BEGINS):
            found.append(shlex.split(line, comments=True))
    return found


def links(page: Path) -> list[str]:
    """Every target of a link or an image but those on other sites."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    found = ["".join(either) for either in _LINK.findall(text)]
    return [target for target in found if "://" not in target]


def anchors(page: Path) -> set[str]:
    """What can stand after a `#`: the headings, as GitHub writes them."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def tree() -> dict[str, list[str]]:
    """The README's file tree: the names in each folder, `""` for the top."""
    (text,) = (block.text for block in blocks(README) if block.text.startswith("run.py "))
    names: dict[str, list[str]] = {"": []}
    folder = ""
    for line in text.splitlines():
        found = re.match(r"( *)(\S+(?: \S+)*)(?:  |$)", line)
        assert found, line
        indent, here = len(found[1]), found[2].split()
        if indent > 4:  # a description that goes on
            continue
        if indent == 0:
            names[""] += here
            folder = here[-1].rstrip("/")
        else:
            names.setdefault(folder, []).extend(here)
    return names
