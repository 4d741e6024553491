"""What was done to a run, how often, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Story:
    """One row of the table. Every `check` that fails is kept: the table does not hide them."""

    fault: str
    tried: int
    outcome: str = ""
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)
