"""Number of steps that each scheduler needs.

    python -m experiments.benchmarks.steps
    python -m experiments.benchmarks.steps --images 1000 --noise-rates 0.3,0.5,0.7

The same requests with the bundled models, drawn by each scheduler with 5 to 50 steps, of which
`int(steps * noise_rate)` are run. `quality` defines the figures; the reference of each
scheduler is itself with 99 steps. One that adds noise as it goes has none: other steps, other
noise. Images depend on the seed alone, so there is one round whatever `--rounds` says.

With the spacing that Stable Diffusion was published with, the steps are whole multiples of some
number of timesteps, so that one noise rate begins at another timestep with each number of steps:
that is a part of what few steps change. The table says where. (200 steps would begin far below 99,
at three quarters of the noise: 1000 // 201 is 4, and 200 times 4 is only 800.)
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.common import arguments, finish, table
from experiments.benchmarks.quality import COLUMNS, Measured, Setting

SCHEDULERS = (
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
)
STEPS = (5, 8, 12, 20, 35, 50)
REFERENCE = 99
"""100 divides 1,000, so that this one begins where the noise rate says."""
ASSETS = Path(str(files("sgid") / "assets"))

Curves = dict[str, dict[int, Measured]]
"""Scheduler -> steps -> what they give."""


def main() -> None:
    given = arguments(__doc__, images=300, device="cpu", noise_rates="0.7,0.5")
    rates = [float(rate) for rate in given.noise_rates.split(",")]
    body, raw, all_curves = [], {}, {}
    for rate in rates:
        with TemporaryDirectory() as artifacts:
            setting = Setting(
                given.images, noise_rate=rate, device=given.device, artifacts=Path(artifacts)
            )
            curves = {name: curve(setting, name) for name in SCHEDULERS}
            floor = setting.floor()
        all_curves[rate] = curves
        body.append(
            f"## Noise rate {rate:g}\n\n{_table(curves, rate)}\n\n"
            f"Distance of the originals themselves: {floor:.2f}."
        )
        raw[f"{rate:g}"] = {
            name: {steps: one.values() for steps, one in line.items()}
            for name, line in curves.items()
        }
    finish(
        "steps",
        given.out,
        title=f"Quality against steps, bundled models, {given.images} images",
        body="\n\n".join(body),
        targets=[],
        figure=_figure(all_curves),
        data={"noise_rates": raw},
    )


def curve(setting: Setting, scheduler: str) -> dict[int, Measured]:
    """Metrics of a scheduler with each number of steps."""
    ancestral = "Ancestral" in scheduler
    like = (
        None if ancestral else setting.draw(setting.engine(scheduler=scheduler, steps=REFERENCE))[0]
    )
    line = {}
    for steps in STEPS:
        images, rate = setting.draw(setting.engine(scheduler=scheduler, steps=steps))
        line[steps] = setting.measure(images, rate=rate, like=like)
        print(scheduler, steps, *line[steps].cells(), flush=True)
    return line


def _table(curves: Curves, noise_rate: float) -> str:
    rows = [
        (_short(name), steps, int(steps * noise_rate), first(name, steps, noise_rate), *one.cells())
        for name, line in curves.items()
        for steps, one in line.items()
    ]
    return table(("scheduler", "steps", "run", "from t", *COLUMNS), rows)


def first(scheduler: str, steps: int, noise_rate: float) -> int:
    """The timestep that a noise rate begins at."""
    import diffusers

    own = diffusers.DDIMScheduler.load_config(ASSETS / "models/sd/scheduler")
    made = getattr(diffusers, scheduler).from_config(own)
    made.set_timesteps(steps)
    return int(made.timesteps[steps - int(steps * noise_rate)])


def _figure(curves: dict[float, Curves]) -> Any:
    """A row for each noise rate, a panel for each figure, a line for each scheduler."""
    from matplotlib.figure import Figure

    from sgid.reporting.figures import COLOURS

    figure = Figure(figsize=(11, 2.4 * len(curves) + 0.5), layout="constrained")
    panels: Sequence[Any] = figure.subplots(len(curves), 4, squeeze=False)
    for row, (noise_rate, lines) in zip(panels, curves.items(), strict=True):
        shown = ("off", "agreement", "cosine", "distance")
        for axes, what, title in zip(row, shown, (COLUMNS[4], *COLUMNS[1:4]), strict=True):
            for (name, line), colour in zip(lines.items(), COLOURS, strict=True):
                points = {steps: getattr(one, what) for steps, one in line.items()}
                if None not in points.values():
                    axes.plot(*zip(*points.items(), strict=True), ".-", color=colour,
                              label=_short(name))  # fmt: skip
            axes.set_xscale("log")
            axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
            axes.minorticks_off()
            axes.set_title(f"{title}, noise rate {noise_rate:g}", fontsize=8)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_yscale("log")
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    figure.supxlabel("steps at noise rate 1", fontsize=8)
    return figure


def _short(scheduler: str) -> str:
    return scheduler.removesuffix("Scheduler")


if __name__ == "__main__":
    main()
