"""One progress bar for all long work: what is done of how much, the rate, the time left."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress(what: str, total: int, unit: str, *, done: int = 0) -> tqdm:
    """A bar that starts at `done`; in a file or a pipe a line now and then, not a flicker."""
    interval = 0.2 if sys.stderr.isatty() else 15.0
    return tqdm(
        total=total,
        initial=done,
        desc=f"{what:>12}",
        unit=f" {unit}",
        mininterval=interval,
        maxinterval=interval,
        disable=done >= total,
        smoothing=0.05,
    )
