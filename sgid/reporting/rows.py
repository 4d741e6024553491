"""The row of a table: the runs of one arm, a seed each, and what can be said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sgid.evaluation.statistics import Estimate, paired_difference
from sgid.reporting.arms import GENERATION, GROUPS, arm, generates, settings
from sgid.reporting.results import Result
from sgid.reporting.wording import ABSENT, value_text

Row = Sequence[Result]
Partner = Callable[[Result, Sequence[Result]], Result | None]

CHOSEN_NOTE = (
    "The best checkpoint is chosen on the validation part; the test set is touched once, by it."
)


def rows_of(results: Sequence[Result]) -> list[Row]:
    """The arms in the order in which they first appear; of equal seeds the later run counts."""
    arms: dict[str, dict[int, Result]] = {}
    for result in results:
        arms.setdefault(arm(result.config, result.aug), {})[result.seed] = result
    return [list(seeds.values()) for seeds in arms.values()]


def choice(result: Result, group: str) -> str | None:
    """The choice of a config group, `None` where it changes nothing."""
    unread = group in GENERATION and not generates(result.config, result.aug)
    return None if unread or group not in result.choices else value_text(result.choices[group])


def choices(rows: Iterable[Row], group: str) -> list[str]:
    """The choices of a group that some row was made with, in order."""
    return list(dict.fromkeys(made for row in rows if (made := choice(row[0], group)) is not None))


def fixed(rows: Sequence[Row]) -> list[str]:
    """`dataset cars`, `models sd15`: the choices that are the same in all rows."""
    made = {group: choices(rows, group) for group in GROUPS}
    return [f"{group} {names[0]}" for group, names in made.items() if len(names) == 1]


def setting(result: Result, key: str) -> str:
    """The value of a dotted config key that `varying` has found."""
    values = settings(result.config, result.aug)
    return value_text(values[key]) if key in values else ABSENT


def difference(row: Row, results: Sequence[Result], partner: Partner) -> Estimate:
    """Test top-1 minus the partners', in points, paired over equal seeds; `n` = 0 without any."""
    found = [(result, partner(result, results)) for result in row]
    pairs = [(a.metrics["test/top1"], b.metrics["test/top1"]) for a, b in found if b is not None]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs])
