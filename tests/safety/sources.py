"""The project's own code as syntax trees; and a stranger's folder."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.end_to_end.command import ROOT

FILES: dict[Path, ast.Module] = {
    path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
    for top in ("sgid", "experiments")
    for path in sorted((ROOT / top).rglob("*.py"))
}
FILES[Path("run.py")] = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))


def evil(folder: Path, name: str, text: str) -> list[str]:
    """A choice in a folder of a stranger's; the options that add the folder."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return [f"hydra.searchpath=[{folder}]"]
