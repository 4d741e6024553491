"""Is there a best amount of re-drawing, and a best guidance by the text?

Noise rate × guidance scale, the same scale for all images: accuracy, semantic consistency and
diversity, and what becomes of one image (the paper's Figure 5).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.charts.heatmap import heat_maps
from experiments.charts.image_grid import settings_grid
from experiments.paper.arms import SGID
from experiments.paper.choice import chosen, complete
from experiments.paper.contrasts import top1
from experiments.paper.grid import Sweep
from experiments.paper.measures import estimate_text, generative, measured, rank_correlation
from experiments.paper.page import Page
from experiments.paper.scales import Scale
from sgid.evaluation.statistics import Estimate
from sgid.reporting.format import ABSENT, mean_text, value_text
from sgid.reporting.image_metrics import SAID
from sgid.reporting.results import Example, Result, read_examples
from sgid.reporting.table import Cell, Table

if TYPE_CHECKING:
    from PIL.Image import Image

TITLE = "Noise rate and guidance scale"
NOISE_RATES = ["0.3", "0.5", "0.7", "0.9"]
SCALES = ["1.5", "3.0", "5.0", "10.0"]


def grid(scale: Scale) -> list[Sweep]:
    few = {"dataset": [scale.dataset], "dataset.shots": [scale.few_shots]}
    steering = {"noise_rate": NOISE_RATES, "guidance": ["fixed"], "guidance.scale": SCALES}
    return [scale.sweep(SGID, {**few, **steering})]


TOP1 = "test top-1 (%)"
MEASURES = {"cosine": 3, "label_agreement": 1, "diversity": 3}
"""With how many decimals each is drawn."""
Setting = tuple[str, str]
"""A noise rate and a guidance scale."""


def render(results: Sequence[Result]) -> Page:
    runs = generative(results)
    if not runs:
        return Page()
    cells: dict[Setting, dict[int, Result]] = {}
    for run in sorted(runs, key=_place):
        cells.setdefault(_setting(run), {})[run.seed] = run
    maps: dict[str, dict[Setting, Estimate]] = {
        TOP1: {setting: top1(seeds) for setting, seeds in cells.items()}
    }
    digits = {TOP1: 1}
    for name, decimals in MEASURES.items():
        found = {setting: measured(seeds.values(), name) for setting, seeds in cells.items()}
        if any(one.n for one in found.values()):
            maps[SAID[name].title] = found
            digits[SAID[name].title] = decimals
    figures = {"maps": heat_maps(maps, rows="noise_rate", columns="guidance.scale", digits=digits)}
    captions = {
        "maps": "Accuracy, semantic consistency and diversity by noise rate and guidance scale: "
        "means over seeds, ± the half-width of their 95 % intervals."
    }
    images = {setting: _first(seeds) for setting, seeds in cells.items()}
    if example := next((one for one in images.values() if one), None):
        shown = {
            setting: _image(one.images[0])
            for setting, one in images.items()
            if one and one.key == example.key
        }
        figures["image"] = settings_grid(
            _image(example.original), shown, rows="noise_rate", columns="guidance.scale",
            title=example.class_name,
        )  # fmt: skip
        captions["image"] = (
            "One image at every noise rate and guidance scale, from the same noise. Its caption: "
            f"“{example.caption}”."
        )
    return Page(tuple(_findings(cells)), {"settings": _table(cells, maps)}, figures, captions)


def _place(run: Result) -> tuple[float, float]:
    return float(run.config["noise_rate"]), float(run.config["guidance"]["scale"])


def _setting(run: Result) -> Setting:
    rate, scale = _place(run)
    return value_text(rate), value_text(scale)


def _findings(cells: Mapping[Setting, Mapping[int, Result]]) -> list[str]:
    findings = []
    whole = complete(cells)
    if (best := chosen(whole)) is not None:
        highest = max(whole, key=lambda setting: top1(whole[setting]).value)
        lowest = min(whole, key=lambda setting: top1(whole[setting]).value)
        text = (
            f"The validation part chooses noise rate {best[0]} and guidance scale {best[1]}, with "
            f"test top-1 {mean_text(top1(whole[best]))} %."
        )
        if best != highest:
            text += (
                f" The best on the test part is {_cell(cells, highest)}: it was not to be known."
            )
        text += f" The worst is {_cell(cells, lowest)}."
        if len(whole) < len(cells):
            text += f" {len(cells) - len(whole)} settings without all seeds had no say in this."
        findings.append(text)
    for name in MEASURES:
        pairs = [
            (top1(seeds).value, one.value)
            for seeds in cells.values()
            if (one := measured(seeds.values(), name)).n
        ]
        if sentence := rank_correlation(pairs, SAID[name].title, "settings"):
            findings.append(sentence)
    return findings


def _cell(cells: Mapping[Setting, Mapping[int, Result]], setting: Setting) -> str:
    return f"{setting[0]} and {setting[1]} ({mean_text(top1(cells[setting]))} %)"


def _table(
    cells: Mapping[Setting, Mapping[int, Result]], maps: Mapping[str, Mapping[Setting, Estimate]]
) -> Table:
    heads = ("noise rate", "guidance scale", "seeds", "validation top-1 (%)", *maps)
    rows = [
        (
            *map(Cell, setting),
            Cell(str(len(seeds))),
            Cell(mean_text(top1(seeds, "validation"))),
            *(Cell(_text(panel[setting], title)) for title, panel in maps.items()),
        )
        for setting, seeds in cells.items()
    ]
    note = "Means over seeds, ± the half-width of the 95 % t-interval. Nothing here is tested."
    return Table("SGID by noise rate and guidance scale", heads, tuple(rows), (note,))


def _text(estimate: Estimate, title: str) -> str:
    if not estimate.n:
        return ABSENT
    return estimate_text(estimate, 2 if title == TOP1 else 4)


def _first(seeds: Mapping[int, Result]) -> Example | None:
    """The first original that the run with the lowest seed keeps to show."""
    return next(iter(read_examples(seeds[min(seeds)].folder)), None)


def _image(encoded: bytes) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(encoded))
