"""Tables for a terminal, Markdown, LaTeX and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of one place in a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Headers, rows of as many cells, and notes below."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def print(self, console: Console) -> None:
        """Print the table, then its notes.

        In a terminal it fits the width of that. In a log or a pipe, whose readers can scroll, it
        is as wide as its cells, so that no word, command or path is broken.
        """
        table = self._rich()
        if not console.is_terminal:
            unlimited = console.options.update(max_width=10_000)
            table.width = console.measure(table, options=unlimited).maximum
        console.print(self.title, style="bold", soft_wrap=True, markup=False, highlight=False)
        console.print(table, soft_wrap=False, crop=False)
        for note in self.notes:
            console.print(note, soft_wrap=True, style="dim italic", markup=False, highlight=False)
        if self.notes:
            console.print()

    def _rich(self) -> RichTable:
        import rich.box
        import rich.table
        from rich.text import Text

        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        for header in self.headers:
            table.add_column(Text(header), overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell.text, style="bold" if cell.bold else "") for cell in row))
        return table

    def markdown(self) -> str:
        """GitHub's Markdown."""

        def line(cells: list[str]) -> str:
            return "| " + " | ".join(cells) + " |"

        body = [
            line([f"**{_md(cell.text)}**" if cell.bold else _md(cell.text) for cell in row])
            for row in self.rows
        ]
        head = [line([_md(header) for header in self.headers]), line(["---"] * len(self.headers))]
        notes = [f"- {_md(note)}" for note in self.notes]
        blocks = [f"### {_md(self.title)}", "\n".join(head + body), "\n".join(notes)]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def latex(self) -> str:
        r"""A `table` environment; needs `\usepackage{booktabs}`."""

        def line(cells: list[str]) -> str:
            return "  " + " & ".join(cells) + r" \\"

        body = [
            line([rf"\textbf{{{_tex(c.text)}}}" if c.bold else _tex(c.text) for c in row])
            for row in self.rows
        ]
        notes = [rf"\par\smallskip\footnotesize {_tex(' '.join(self.notes))}"] if self.notes else []
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(self.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(self.headers)}}}",
            r"  \toprule",
            line([_tex(header) for header in self.headers]),
            r"  \midrule",
            *body,
            r"  \bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """A page of its own."""
        from sgid.reporting.html import render

        return render("table.html.j2", table=self)


def _md(text: str) -> str:
    for mark in "\\`*_|<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
