"""Clock of a device at work, whether or not it is waited for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Clock:
    """Time between two events of a GPU's stream; on a CPU the time of the process."""

    device: torch.device

    @contextmanager
    def span(self, spans: list[Any]) -> Iterator[None]:
        """Append when the device begins and ends what is asked of it in here."""
        if self.device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            spans.append((begin, end))
        else:
            began = time.perf_counter()
            yield
            spans.append((began, time.perf_counter()))

    def seconds(self, spans: list[Any]) -> float:
        """The sum of the spans; a GPU is waited for."""
        if self.device.type != "cuda":
            return sum(end - begin for begin, end in spans)
        torch.cuda.synchronize()
        return sum(begin.elapsed_time(end) for begin, end in spans) / 1000

    def median(self, work: Callable[[], object], *, times: int = 8) -> float:
        """Seconds that `work` takes, without its first three turns."""
        spans: list[Any] = []
        for turn in range(times + 3):
            with self.span(spans if turn >= 3 else []):
                work()
        return statistics.median(self.seconds([one]) for one in spans)
