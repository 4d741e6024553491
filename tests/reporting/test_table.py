"""One table, four renderings, none of which a cell can break out of."""

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from sgid.reporting.table import Cell, Table

NASTY = "a|b & 5% of $x_1$ <script>alert(1)</script> [red]{~^\\}"


@pytest.fixture
def table() -> Table:
    rows = ((Cell("none"), Cell("70.00 ± 1.00")), (Cell(NASTY), Cell("+1.20", bold=True)))
    return Table("A #1 table", ("arm_name", "top-1 (%)"), rows, ("A note: p < .05.",))


def test_markdown_has_one_line_per_row_and_as_many_cells(table: Table):
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert "**+1.20**" in table.markdown()
    assert "<script>" not in re.sub(r"\\<", "", table.markdown())


def test_latex_is_booktabs_and_escaped(table: Table):
    latex = table.latex()
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    assert r"\textbf{+1.20}" in latex and r"$\pm$" in latex
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.strip().splitlines()] == [1, 1]
    assert r"arm\_name" in latex and r"\#1" in latex and r"5\% of \$x\_1\$" in latex
    assert latex.isascii()


def test_html_is_escaped_and_whole(table: Table):
    tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)

    Parser().feed(table.html())
    assert "script" not in tags
    assert (tags.count("tr"), tags.count("td"), tags.count("strong")) == (3, 4, 1)
    assert "&lt;script&gt;" in table.html()


def test_a_log_has_every_cell_and_note_whole_and_markup_is_text(table: Table):
    path = "/a/path/" + "of_many_folders/" * 12
    stream = io.StringIO()
    wide = Table(path, table.headers, (*table.rows, (Cell(path), Cell(path))), (path, *table.notes))
    wide.print(Console(file=stream, width=80))
    assert stream.getvalue().count(path) == 4
    assert NASTY in stream.getvalue() and "A note" in stream.getvalue()


def test_a_terminal_is_not_exceeded_by_the_table(table: Table):
    stream = io.StringIO()
    wide = Table("", table.headers, (*table.rows, (Cell("word " * 40), Cell("path" * 40))))
    wide.print(Console(file=stream, width=60, force_terminal=True, color_system=None))
    assert max(map(len, stream.getvalue().splitlines())) == 60
