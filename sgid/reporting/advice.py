"""The page that `experiment=advise` ends with: `advice.html`, its chart `advice.png`, and
`advice.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgid.evaluation.statistics import Estimate
from sgid.reporting.figure_files import encode
from sgid.reporting.figures import BLACK, BLUE, ORANGE
from sgid.reporting.format import difference_text, mean_text, signed
from sgid.reporting.html import _uri, render
from sgid.reporting.table import Cell, Table
from sgid.runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Arm:
    """A candidate of the search, by the options that make it.

    Args:
        validation: top-1 in percent over the seeds that it was trained with; `None` if none.
        test: the same on the test set, of the two that were scored on it.
        note: how far it came.
        command: the line to type for it.
    """

    name: str
    generates: bool
    validation: Estimate | None
    test: Estimate | None
    note: str
    command: str


@dataclass(frozen=True)
class Answer:
    """Best lead on validation that a search had found after some hours."""

    hours: float
    contender: str
    baseline: str
    lead: Estimate


@dataclass(frozen=True)
class Advice:
    """The answer of a search.

    Args:
        arms: all candidates, the best first.
        baseline, contender: indices in `arms` of the best without generated images, and with;
            `advised` is one of them.
        lead: of the contender over the baseline on validation, `gain` on the test set, in points
            of top-1, paired by seed.
        answers: the answer after each round.
        images: sizes of the splits, and how validation is drawn, as text.
        hours: the hours that were asked for, and `spent`.
        limits: sentences on what the models of the search cannot show.
        screening: rows of what was looked at before any training: candidate, share of images that
            keep their label, diversity, score.
    """

    dataset: str
    backbone: str
    arms: tuple[Arm, ...]
    baseline: int
    contender: int
    advised: Arm
    lead: Estimate
    gain: Estimate
    answers: tuple[Answer, ...]
    images: str
    hours: float
    spent: float
    limits: tuple[str, ...]
    screening: tuple[tuple[str, float, float, float], ...]

    @property
    def sure(self) -> bool:
        """Whether the paired test supports the lead on validation."""
        return self.lead.supported and self.lead.value > 0

    @property
    def generate(self) -> bool:
        return self.advised.generates

    @property
    def headline(self) -> str:
        if self.sure:
            return f"Use {self.advised.name}"
        if self.generate:
            return f"Perhaps {self.advised.name}: it leads, and chance could do that"
        if self.lead.n < 2 and self.lead.value > 0:
            return f"Not known yet: {self.advised.name} until more hours have told"
        return f"Leave it: {self.advised.name} alone does as well"

    @property
    def sureness(self) -> str:
        """Sentences on the evidence."""
        best, other, lead = self.arms[self.contender].name, self.arms[self.baseline].name, self.lead
        seeds = f"{lead.n} seeds" if lead.n > 1 else "1 seed"
        told = f"by {difference_text(lead, lead.p)}, in points of top-1 over {seeds}"
        if self.sure:
            return f"On validation {best} leads {other} {told}."
        if not lead.value > 0:
            text = (
                f"On validation no candidate with generated images was better than {other}: the "
                f"best, {best}, differs {told}."
            )
        else:
            text = (
                f"On validation the best candidate with generated images, {best}, leads {other} "
                f"{told}, which is not more than chance can do."
            )
        if lead.n < 2:
            text += " One seed says nothing about chance: take more hours."
        if not math.isnan(lead.high):
            text += f" A gain above {signed(max(lead.high, 0.0))} is unlikely (95 % interval)"
            if lead.high > 3:
                text += "; more hours, or more validation images, would tell more"
            text += "."
        return text

    @property
    def tested(self) -> str:
        """A sentence on the test set."""
        best, other = self.arms[self.contender], self.arms[self.baseline]
        text = (
            f"On the test set, scored once at the end and for these two alone, {best.name} differs "
            f"from {other.name} by {difference_text(self.gain, self.gain.p)}, paired by seed."
        )
        if self.generate != (self.gain.supported and self.gain.value > 0):
            if self.gain.supported:
                text += " Validation did not show that: believe the test set."
            elif self.generate:
                text += (
                    " That is not supported by the test: the gain may be smaller than it seemed."
                )
        return text


def write(advice: Advice, folder: Path) -> Path:
    """Write the page, its chart and its figures as JSON; the path of the page."""
    chart = encode(curve(advice))
    write_atomic(folder / "advice.png", chart)
    told = {
        **asdict(advice),
        "generate": advice.generate,
        "sure": advice.sure,
        "advised": advice.advised.name,
    }
    write_atomic(folder / "advice.json", json.dumps(_standard(told), indent=2).encode())
    page = render(
        "advice.html.j2",
        advice=advice,
        chart=_uri(chart, "png"),
        table=compared(advice),
        screening=[
            (name, f"{100 * share:.0f} %", f"{diversity:.3f}", f"{score:.3f}")
            for name, share, diversity, score in advice.screening
        ],
    )
    write_atomic(folder / "advice.html", page.encode())
    return folder / "advice.html"


def _standard(value: Any) -> Any:
    """With `None` for NaN, which is no JSON."""
    if isinstance(value, dict):
        return {key: _standard(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def compared(advice: Advice) -> Table:
    """All candidates: validation and test top-1 in percent, and how far each came."""
    rows = [
        (
            Cell(arm.name, bold=arm == advice.advised),
            Cell("yes" if arm.generates else "no"),
            Cell(mean_text(arm.validation) if arm.validation else "–"),
            Cell(str(arm.validation.n) if arm.validation else "–"),
            Cell(mean_text(arm.test) if arm.test else "–"),
            Cell(arm.note),
        )
        for arm in advice.arms
    ]
    headers = ("candidate", "generates", "validation top-1 (%)", "seeds", "test top-1 (%)", "")
    return Table("Candidates", headers, tuple(rows))


def curve(advice: Advice) -> Figure:
    """Lead of the best candidate with generated images over the best without, against hours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.9), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    unit, length = ("hours", 1.0) if advice.spent >= 2 else ("minutes", 60.0)
    times = [length * one.hours for one in advice.answers]
    leads = [one.lead for one in advice.answers]
    values = [lead.value for lead in leads]
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.errorbar(
        times, values, yerr=_spans(leads), color=BLUE, marker="o", ms=4, linewidth=1.2, capsize=3,
        label="validation, best so far",
    )  # fmt: skip
    axes.errorbar(
        [length * advice.spent], [advice.gain.value], yerr=_spans([advice.gain]), color=ORANGE,
        marker="s", ms=5, capsize=3, linestyle="none", label="test, once",
    )  # fmt: skip
    drawn = [*leads, advice.gain]
    shown = [abs(lead.value) + min(lead.half_width, 10) for lead in drawn if lead.half_width > 0]
    limit = 1.15 * max([1.0, *(abs(lead.value) for lead in drawn), *shown])
    axes.set_ylim(-limit, limit)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} spent")
    axes.set_ylabel("gain by generating (points)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _spans(leads: Sequence[Estimate]) -> list[float]:
    """Half widths of the intervals, 0 where there is none."""
    return [0.0 if math.isnan(lead.half_width) else lead.half_width for lead in leads]
