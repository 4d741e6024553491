"""The end of a run: its page, and the table in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sgid.reporting.arms import find_baseline
from sgid.reporting.comparison import comparison_table
from sgid.reporting.report import write_report
from sgid.reporting.results import load_result, load_results


def report(folder: Path, results: Path, console: Console) -> None:
    """Write `report.html` of the run in `folder`, and print the run beside its baseline."""
    result = load_result(folder)
    baseline = find_baseline(result, load_results(results))
    page = write_report(folder, baseline)
    shown = [result] if baseline is None or baseline.folder == folder else [baseline, result]
    console.print(comparison_table(shown, "This run").rich())
    console.print(f"report: {page}", highlight=False, markup=False)
