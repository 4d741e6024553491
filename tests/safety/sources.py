"""The project's own code as syntax trees."""

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
