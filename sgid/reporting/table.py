"""A table, and the four ways to show it: terminal, Markdown, LaTeX, HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.table

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
    """What stands in one place of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Headers, rows of as many cells, and the notes that belong beneath."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def rich(self) -> rich.table.Table:
        """For `rich.console.Console().print`."""
        import rich.box
        import rich.table
        from rich.text import Text

        table = rich.table.Table(
            title=Text(self.title, style="bold"),
            caption=Text("\n".join(self.notes)),
            title_justify="left",
            caption_justify="left",
            box=rich.box.SIMPLE_HEAD,
        )
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
