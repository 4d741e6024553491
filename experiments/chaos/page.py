"""The table in `docs/reliability.md`, between two marks; the rest of the page is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.chaos.story import Story
from sgid.runtime.files import write_atomic

BEGIN, END = "<!-- made by make chaos -->", "<!-- end -->"


def write_table(page: Path, stories: Sequence[Story], made_by: str) -> None:
    """Put a row for each story between the marks.

    Raises:
        ValueError: if the page does not have them.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the table, between {BEGIN} and {END}")
    rows = [f"| {one.fault} | {one.tried} | {_outcome(one)} |" for one in stories]
    table = "\n".join(["| fault | tried | outcome |", "|---|---|---|", *rows])
    made = f"{before}{BEGIN}\n\n{table}\n\n{made_by}.\n\n{END}{after}"
    write_atomic(page, made.encode())


def _outcome(story: Story) -> str:
    if not story.failures:
        return story.outcome
    return f"**{len(story.failures)} checks failed**, the first: {story.failures[0][:200]!r}"
